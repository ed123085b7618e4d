#include "video_io/vbench/plan.h"

#include <fmt/ranges.h>

#include <charconv>
#include <set>

#include "base/error.h"
#include "base/suggest.h"
#include "base/utf8.h"
#include "runtime/families.h"
#include "runtime/options_yaml.h"
#include "runtime/video_model.h"
#include "video_io/vbench/protocol.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

constexpr int kVersion = 1;
constexpr int kMaxSamples = 1000;
constexpr int kMaxCrf = 12;

const std::vector<std::string>& not_of_the_plan() {
  static const std::vector<std::string> keys = {"prompt", "out", "seed", "run.device", "run.threads", "run.json_log", "run.dry_run"};
  return keys;
}

template <class T>
T whole(const YamlEntry& entry, T min, T max) {
  const std::string text = entry.scalar(entry.key);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < min || value > max)
    fail_usage("{}: {} must be a whole number from {} to {}, found '{}'", entry.place, entry.key, min, max, printable(text));
  return value;
}

template <class T>
T one_of(const YamlEntry& entry, std::initializer_list<T> values) {
  const std::string text = entry.scalar(entry.key);
  std::vector<std::string> names;
  for (const T value : values) {
    names.push_back(name_of(value));
    if (names.back() == text) return value;
  }
  fail_usage("{}: {} must be one of {}, found '{}'", entry.place, entry.key, fmt::join(names, ", "), printable(text));
}

std::vector<std::string> texts(const YamlEntry& entry) {
  if (!entry.value.IsSequence()) entry.fail_expected(entry.key, "a list");
  std::vector<std::string> out;
  for (const YAML::Node& item : entry.value) {
    if (!item.IsScalar()) entry.fail_expected(entry.key, "a list of names");
    out.push_back(item.Scalar());
  }
  return out;
}

fs::path plan_path(const BatchFolder& folder) { return folder.meta() / "plan.yaml"; }
fs::path info_path(const BatchFolder& folder) { return folder.meta() / "VBench_full_info.json"; }
fs::path list_path(const BatchFolder& folder) { return folder.meta() / "longer_prompts.txt"; }

}  // namespace

std::string name_of(VbenchProtocol protocol) { return protocol == VbenchProtocol::standard ? "short" : "long"; }
std::string name_of(VbenchLayout layout) { return layout == VbenchLayout::by_suite ? "suite" : "flat"; }

int VbenchPlan::samples_of(const std::string& suite) const { return suite == kFlickering ? flicker_samples : samples; }

int VbenchPlan::frames() const { return video_frames(recipe, options.values()); }

double VbenchPlan::seconds() const { return static_cast<double>(frames()) / options.values().fps; }

VbenchProtocol protocol_for(double seconds) { return seconds < kLongSeconds ? VbenchProtocol::standard : VbenchProtocol::long_videos; }

void check_vbench_plan(const VbenchPlan& plan) {
  const GenerateOptions& o = plan.options.values();
  GenerateOptions complete = o;
  complete.prompt = complete.out = "x";
  validate(complete, plan.recipe);
  make_video_request(plan.recipe, complete);
  if (protocol_for(plan.seconds()) != plan.protocol)
    fail_usage("videos of {:.2f} s belong to {}, not to --protocol {}; leave --protocol out, or change --frames or --fps", plan.seconds(),
               plan.protocol == VbenchProtocol::standard ? "VBench-Long (5 s or more)" : "VBench (less than 5 s)", name_of(plan.protocol));
  if (plan.layout == VbenchLayout::flat && plan.protocol == VbenchProtocol::long_videos)
    fail_usage("VBench-Long splits the videos of a folder by the clip length of one suite: use --layout suite");
  if (o.crf > kMaxCrf)
    fail_usage("--crf {} would measure the encoder as well: an evaluation wants 0 (lossless) to {}", o.crf, kMaxCrf);
}

std::string plan_yaml(const VbenchPlan& plan) {
  std::string out = fmt::format(
      "# An export for VBench, made by longtake vbench plan. A video's seed is seed + 1000003 * line + index.\n"
      "version: {}\n{}protocol: {}\nlayout: {}\nsuites: [{}]\nsamples: {}\nflicker_samples: {}\nseed: {}\nprompt_list: {}\ngenerate:\n",
      kVersion, is_magi(plan.recipe) ? fmt::format("family: {}\n", kMagiFamily) : "", name_of(plan.protocol), name_of(plan.layout), fmt::join(plan.suites, ", "), plan.samples, plan.flicker_samples, plan.seed,
      nlohmann::json(plan.prompt_list).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  std::vector<std::string> without = not_of_the_plan();
  if (is_magi(plan.recipe)) {
    const std::vector<std::string> more = options_without_effect(plan.recipe);
    without.insert(without.end(), more.begin(), more.end());
  }
  const std::string options = plan.options.to_yaml(without);
  for (size_t start = 0; start < options.size();) {
    const size_t end = options.find('\n', start) + 1;
    out += "  " + options.substr(start, end - start);
    start = end;
  }
  return out;
}

VbenchPlan parse_vbench_plan(const std::string& yaml, const std::string& origin) {
  static const std::vector<std::string> keys = {"version", "protocol", "layout", "suites", "samples", "flicker_samples", "seed", "prompt_list", "generate"};
  VbenchPlan plan;
  std::set<std::string> seen;
  for (const YamlEntry& entry : yaml_entries(parse_yaml(yaml, origin), origin)) {
    seen.insert(entry.key);
    if (entry.key == "version")
      whole(entry, kVersion, kVersion);
    else if (entry.key == "family")
      check_family(plan.recipe.architecture.family = entry.scalar(entry.key), entry.place);
    else if (entry.key == "protocol")
      plan.protocol = one_of(entry, {VbenchProtocol::standard, VbenchProtocol::long_videos});
    else if (entry.key == "layout")
      plan.layout = one_of(entry, {VbenchLayout::by_suite, VbenchLayout::flat});
    else if (entry.key == "suites")
      plan.suites = choose_suites(texts(entry), {});
    else if (entry.key == "samples")
      plan.samples = whole(entry, 1, kMaxSamples);
    else if (entry.key == "flicker_samples")
      plan.flicker_samples = whole(entry, 1, kMaxSamples);
    else if (entry.key == "seed")
      plan.seed = whole<uint64_t>(entry, 0, UINT64_MAX);
    else if (entry.key == "prompt_list")
      plan.prompt_list = entry.scalar(entry.key);
    else if (entry.key == "generate") {
      if (!entry.value.IsMap()) entry.fail_expected("generate", "a section with the options of generate");
      for (const OptionAssignment& assignment : option_assignments(entry.value, origin)) {
        const auto& foreign = not_of_the_plan();
        if (std::find(foreign.begin(), foreign.end(), assignment.key) != foreign.end())
          fail_usage("{}: {} is no part of a plan", assignment.where, assignment.key);
        plan.options.set(assignment, SourceLevel::config);
      }
    } else
      fail_usage("{}: unknown key '{}'{}", entry.place, printable(entry.key), did_you_mean(entry.key, keys));
  }
  for (const std::string& key : keys)
    if (!seen.contains(key)) fail_usage("{}: the key '{}' is missing; make the plan again with longtake vbench plan", origin, key);
  if (is_magi(plan.recipe)) plan.recipe = resolve_model(plan.options.values().model, default_search()).recipe;
  check_vbench_plan(plan);
  return plan;
}

bool is_vbench_export(const fs::path& root) {
  std::error_code error;
  return fs::is_regular_file(plan_path(BatchFolder(root, true)), error);
}

VbenchExport open_vbench_export(const fs::path& root) {
  const BatchFolder folder(root, true);
  if (!is_vbench_export(root)) fail_file("{}: holds no meta/plan.yaml; make one with longtake vbench plan -o {}", root.string(), root.string());
  VbenchExport vbench{folder, parse_vbench_plan(read_text_file(plan_path(folder)), plan_path(folder).string()),
                      parse_vbench_prompts(read_prompt_file(info_path(folder)), info_path(folder).string())};
  if (vbench.plan.prompt_list != "standard") set_long_prompts(vbench.prompts, read_prompt_file(list_path(folder)), list_path(folder).string());
  return vbench;
}

void write_vbench_export(const fs::path& root, const VbenchPlan& plan, const std::string& info, const std::string& list, bool replace) {
  const BatchFolder folder(root, true);
  std::error_code error;
  const std::string yaml = plan_yaml(plan);
  if (!replace && fs::exists(plan_path(folder), error)) {
    const bool same = read_text_file(plan_path(folder)) == yaml && read_prompt_file(info_path(folder)) == info &&
                      (list.empty() || read_prompt_file(list_path(folder)) == list);
    if (!same) fail_usage("{} holds another plan; choose another folder, or replace the plan with --replace", root.string());
    return;
  }
  write_whole(info_path(folder), info);
  if (!list.empty()) write_whole(list_path(folder), list);
  write_whole(plan_path(folder), yaml);
}

std::string vbench_name(const std::string& prompt, int index) { return fmt::format("{}-{}", prompt, index); }

std::vector<BatchJob> vbench_jobs(const VbenchExport& vbench) {
  const VbenchPlan& plan = vbench.plan;
  const std::set<std::string> suites(plan.suites.begin(), plan.suites.end());
  std::set<std::string> made;
  std::vector<BatchJob> jobs;
  for (const VbenchPrompt& prompt : vbench.prompts) {
    if (!suites.contains(prompt.suite)) continue;
    for (int index = 0; index < plan.samples_of(prompt.suite); ++index) {
      BatchJob job;
      const std::string name = vbench_name(prompt.text, index);
      job.name = plan.layout == VbenchLayout::flat ? name : prompt.suite + "/" + name;
      if (!made.insert(job.name).second) continue;
      job.place = fmt::format("VBench prompt {}", prompt.line);
      job.options = plan.options;
      const uint64_t seed = plan.seed + uint64_t{1000003} * static_cast<uint64_t>(prompt.line) + static_cast<uint64_t>(index);
      job.options.set({"prompt", prompt.long_text, job.place}, SourceLevel::flag);
      job.options.set({"out", job.name + ".mp4", job.place}, SourceLevel::flag);
      job.options.set({"seed", fmt::format("{}", seed), job.place}, SourceLevel::flag);
      job.about = {{"vbench_prompt", prompt.text}, {"suite", prompt.suite},        {"line", prompt.line},
                   {"index", index},               {"prompt_list", plan.prompt_list}, {"protocol", name_of(plan.protocol)}};
      jobs.push_back(std::move(job));
    }
  }
  return jobs;
}

}  // namespace longtake
