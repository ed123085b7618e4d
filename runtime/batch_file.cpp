#include "runtime/batch_file.h"

#include <charconv>
#include <map>
#include <memory>

#include "base/error.h"
#include "base/utf8.h"
#include "runtime/batch_names.h"
#include "runtime/families.h"
#include "runtime/options_yaml.h"
#include "runtime/video_model.h"

namespace longtake {
namespace {

constexpr size_t kMaxJobListBytes = 2 << 20;
constexpr size_t kMaxLineBytes = 16 << 10;
constexpr size_t kMaxJobs = 100000;

// FNV-1a, 32 bits.
uint64_t number_of(const std::string& name) {
  uint32_t hash = 2166136261u;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return hash;
}

// Name, output, seed and recipe, once the job's own keys are set.
void complete(BatchJob& job, const RecipeFinder& recipes) {
  OptionSet& options = job.options;
  const GenerateOptions& o = options.values();
  if (!o.seed && options.source("seed").level != SourceLevel::builtin)
    fail_usage("{}: the seed of a batch must be a number, so that every video can be made again; found random ({})", job.place,
               options.source("seed").where);
  if (options.source("seed").level != SourceLevel::job)
    options.set({"seed", fmt::format("{}", o.seed.value_or(0) + number_of(job.name)), "from the name"}, SourceLevel::flag);
  options.set({"out", job.name + ".mp4", "from the name"}, SourceLevel::flag);
  const Recipe& recipe = recipes(o.model);
  options.apply_recipe(recipe.defaults);
  check_options(options, recipe);
}

void check_count(size_t jobs, const std::string& origin) {
  if (jobs > kMaxJobs) fail_usage("{}: more than {} videos in one list; split it", origin, kMaxJobs);
}

void refuse_run_key(const OptionAssignment& a) {
  if (a.key == "out") fail_usage("{}: a job has no 'out'; give its 'name', and the folder with --out", a.where);
  if (a.key == "run.json_log" || a.key == "run.dry_run" || a.key == "run.threads")
    fail_usage("{}: {} is for the whole batch; give it on the command line", a.where, a.key);
}

}  // namespace

RecipeFinder recipe_finder() {
  const auto known = std::make_shared<std::map<std::string, Recipe>>();
  return [known](const std::string& model) -> const Recipe& {
    const auto found = known->find(model);
    if (found != known->end()) return found->second;
    return known->emplace(model, resolve_model(model, default_search()).recipe).first->second;
  };
}

std::vector<PromptLine> prompt_lines(const std::string& text, const std::string& origin) {
  if (text.size() > kMaxPromptListBytes) fail_file("{}: larger than {} MiB, which no prompt list is", origin, kMaxPromptListBytes >> 20);
  std::vector<PromptLine> lines;
  size_t start = text.starts_with("\xef\xbb\xbf") ? 3 : 0;
  for (int number = 1; start < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', start), text.size());
    std::string line = text.substr(start, end - start);
    start = end + 1;
    if (line.ends_with('\r')) line.pop_back();
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    if (line.size() > kMaxLineBytes)
      fail_usage("{} line {}: a prompt of {} bytes, and at most {} are read; is this a prompt list?", origin, number, line.size(), kMaxLineBytes);
    if (!is_utf8(line)) fail_usage("{} line {}: is not UTF-8 text; save the list as UTF-8", origin, number);
    for (const char c : line)
      if ((c >= 0 && c < ' ' && c != '\t') || c == 0x7f)
        fail_usage("{} line {}: holds the control character U+{:04X}; is this a prompt list?", origin, number, static_cast<int>(c));
    lines.push_back({number, std::move(line)});
    check_count(lines.size(), origin);
  }
  return lines;
}

std::vector<BatchJob> parse_prompt_list(const std::string& text, const std::string& origin, const OptionSet& base,
                                        const RecipeFinder& recipes) {
  std::vector<BatchJob> jobs;
  NamePool names;
  for (const PromptLine& line : prompt_lines(text, origin)) {
    BatchJob job;
    job.place = fmt::format("{} line {}", origin, line.line);
    job.options = base;
    job.options.set({"prompt", line.text, job.place}, SourceLevel::job);
    job.name = names.claim_like(name_from_prompt(line.text), job.place);
    complete(job, recipes);
    jobs.push_back(std::move(job));
  }
  return jobs;
}

std::vector<BatchJob> parse_job_list(const std::string& text, const std::string& origin, const OptionSet& base,
                                     const RecipeFinder& recipes) {
  static const std::string besides[] = {"name"};
  const YAML::Node list = parse_yaml_list(text, origin, kMaxJobListBytes);
  check_count(list.size(), origin);
  std::vector<BatchJob> jobs;
  NamePool names;
  for (const YAML::Node& entry : list) {
    BatchJob job;
    job.place = fmt::format("{} line {}", origin, entry.Mark().line + 1);
    job.options = base;
    std::string name_place;
    for (const OptionAssignment& assignment : option_assignments(entry, origin, besides)) {
      if (assignment.key == "name") {
        job.name = assignment.value;
        name_place = assignment.where;
        continue;
      }
      refuse_run_key(assignment);
      job.options.set(assignment, SourceLevel::job);
    }
    if (!name_place.empty()) {
      if (const std::string fault = name_fault(job.name); !fault.empty())
        fail_usage("{}: the name '{}' cannot be a file name: {}", name_place, printable(job.name), fault);
      if (const std::string owner = names.claim(job.name, name_place); !owner.empty())
        fail_usage("{}: the name '{}' is taken by {}; names must differ, and not only in case", name_place, job.name, owner);
    }
    jobs.push_back(std::move(job));
  }
  // Names that were asked for come first, so that none of them is taken by one that is only made up.
  for (BatchJob& job : jobs) {
    if (job.name.empty()) job.name = names.claim_like(name_from_prompt(prompt_text(job.options.values())), job.place);
    complete(job, recipes);
  }
  return jobs;
}

std::vector<BatchJob> read_batch_file(const std::filesystem::path& path, const OptionSet& base, const RecipeFinder& recipes) {
  const bool yaml = path.extension() == ".yaml" || path.extension() == ".yml";
  const std::string text = read_text_file(path, yaml ? kMaxJobListBytes : kMaxPromptListBytes);
  std::vector<BatchJob> jobs = yaml ? parse_job_list(text, path.string(), base, recipes) : parse_prompt_list(text, path.string(), base, recipes);
  if (jobs.empty()) fail_usage("{}: holds no {}", path.string(), yaml ? "jobs" : "prompts");
  for (const BatchJob& job : jobs) check_job(job, recipes(job.options.values().model));
  return jobs;
}

void check_job(const BatchJob& job, const Recipe& recipe) {
  try {
    validate(job.options.values(), recipe);
    check_length(job.options);
    make_video_request(recipe, job.options.values());
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", job.place, error.what()));
  }
}

Shard parse_shard(const std::string& text) {
  const char* end = text.data() + text.size();
  Shard shard;
  const auto [slash, first] = std::from_chars(text.data(), end, shard.index);
  if (first == std::errc() && slash != end && *slash == '/') {
    const auto [rest, second] = std::from_chars(slash + 1, end, shard.count);
    if (second == std::errc() && rest == end && shard.count >= 1 && shard.count <= 1000000 && shard.index >= 1 && shard.index <= shard.count)
      return shard;
  }
  fail_usage("--shard must be I/N with I from 1 to N, such as 2/8, found '{}'", printable(text));
}

}  // namespace longtake
