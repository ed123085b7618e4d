#include "runtime/options.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/utf8.h"
#include "runtime/options_yaml.h"
#include "runtime/policy_spec.h"

namespace longtake {
namespace {

// The two that exclude each other, and what each leaves in the other.
const OptionInfo* partner_of(const OptionInfo& info) {
  if (info.key == "video.frames") return find_option("video.duration");
  if (info.key == "video.duration") return find_option("video.frames");
  return nullptr;
}

void clear_length(GenerateOptions& options, const OptionInfo& info) {
  if (info.key == "video.frames")
    options.frames = 0;
  else
    options.duration = 0;
}

// Text that a YAML reader takes for a string whatever is in it.
std::string quoted(const std::string& text) {
  // Escapes beyond JSON's: yaml-cpp refuses or changes these where they stand bare.
  std::string out;
  for (char c : nlohmann::json(text).dump()) {
    if (c == 0x7f)
      out += "\\x7f";
    else
      out += c;
  }
  return out;
}

std::string yaml_value(const GenerateOptions& options, const OptionInfo& info) {
  const std::string text = option_text(options, info);
  return info.kind == OptionKind::text || info.kind == OptionKind::timeline ? quoted(text) : text;
}

nlohmann::ordered_json json_value(const GenerateOptions& options, const OptionInfo& info) {
  const std::string text = option_text(options, info);
  return std::visit(
      [&](auto field) -> nlohmann::ordered_json {
        using Field = decltype(field);
        if constexpr (std::is_same_v<Field, FrameSize GenerateOptions::*>)
          return text;
        else if constexpr (std::is_same_v<Field, std::optional<uint64_t> GenerateOptions::*>) {
          if (options.*field) return *(options.*field);
          return nullptr;
        } else
          return options.*field;
      },
      info.field);
}

// Frames given, or a duration: the other one is not printed.
bool is_silent(const GenerateOptions& options, const OptionInfo& info) {
  return (info.key == "video.duration" && options.duration == 0) || (info.key == "video.frames" && options.frames == 0);
}

}  // namespace

const OptionSource& OptionSet::source(std::string_view key) const {
  static const OptionSource builtin;
  const auto found = sources_.find(key);
  return found == sources_.end() ? builtin : found->second;
}

void OptionSet::set(const OptionAssignment& assignment, SourceLevel level) {
  const OptionInfo* info = find_option(assignment.key);
  if (info == nullptr) fail_usage("{}: {}", assignment.where, unknown_key(assignment.key));
  GenerateOptions changed = values_;
  parse_option(changed, *info, assignment.value, assignment.where);
  if (level < source(info->key).level) return;
  if (const OptionInfo* partner = partner_of(*info)) {
    const OptionSource& other = source(partner->key);
    if (other.level > level) return;
    if (other.level == level && level != SourceLevel::builtin)
      fail_usage("{}: {} and {} ({}) exclude each other; give one of them", assignment.where, info->key, partner->key,
                 other.where);
    clear_length(changed, *partner);
    sources_.erase(partner->key);
  }
  values_ = std::move(changed);
  sources_[info->key] = {level, assignment.where};
}

void OptionSet::set(std::string_view key_and_value) {
  const size_t equals = key_and_value.find('=');
  if (equals == std::string_view::npos)
    fail_usage("--set: expected KEY=VALUE, such as video.frames=177, found '{}'", printable(key_and_value));
  set({std::string(key_and_value.substr(0, equals)), std::string(key_and_value.substr(equals + 1)), "--set"},
      SourceLevel::set);
}

void OptionSet::apply_yaml(const std::string& text, const std::string& origin) {
  for (const auto& assignment : option_assignments(parse_yaml(text, origin), origin))
    set(assignment, SourceLevel::config);
}

void OptionSet::apply_recipe(const std::vector<OptionAssignment>& defaults) {
  for (const auto& assignment : defaults) {
    const OptionInfo* info = find_option(assignment.key);
    if (info != nullptr && !info->from_recipe)
      fail_usage("{}: a recipe cannot set {}", assignment.where, assignment.key);
    // validate() asks for the reference's way of doing this, whatever suits the model.
    if (values_.parity != "none" && assignment.key == "sampling.history") continue;
    set(assignment, SourceLevel::recipe);
  }
}

std::string OptionSet::to_yaml(const std::vector<std::string>& without) const {
  std::string out, section;
  for (const OptionInfo& info : option_schema()) {
    if (is_silent(values_, info) || std::find(without.begin(), without.end(), info.key) != without.end()) continue;
    if (info.section() != section) out += (section = info.section()) + ":\n";
    const std::string line =
        fmt::format("{}{}: {}", section.empty() ? "" : "  ", info.name(), yaml_value(values_, info));
    out += fmt::format("{}  # {}\n", line, printable(source(info.key).where));
  }
  return out;
}

nlohmann::ordered_json OptionSet::to_json(const std::vector<std::string>& without) const {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const OptionInfo& info : option_schema()) {
    if (is_silent(values_, info) || std::find(without.begin(), without.end(), info.key) != without.end()) continue;
    auto& target = info.section().empty() ? out : out[info.section()];
    target[info.name()] = json_value(values_, info);
  }
  return out;
}

WindowRequest window_request(const GenerateOptions& options) {
  WindowRequest request;
  request.frames = options.frames;
  request.window_frames = options.window;
  request.overlap_frames = options.overlap;
  request.chunk = options.chunk;
  if (!options.image.empty()) request.given_frames = 1;
  if (!options.video.empty()) request.given_frames = options.context > 0 ? options.context : options.overlap;
  request.end_picture = !options.end_image.empty();
  request.whole_chunks = options.parity != "none";
  request.whole_windows = options.parity == "motioncache-ref";
  return request;
}

WindowPlan plan_video(const GenerateOptions& options, std::string* note) {
  WindowRequest request = window_request(options);
  if (note != nullptr) note->clear();
  if (!options.video.empty()) {
    DurationFrames rounded = frames_for_duration(options.add, options.fps, request, request.given_frames);
    request.frames = rounded.frames;
    if (note != nullptr) *note = std::move(rounded.note);
  } else if (options.duration > 0) {
    DurationFrames rounded = frames_for_duration(options.duration, options.fps, request);
    request.frames = rounded.frames;
    if (note != nullptr) *note = std::move(rounded.note);
  }
  return plan_windows(request);
}

namespace {

// What belongs to a video that is gone on from.
void check_extension(const GenerateOptions& o) {
  if (o.video.empty()) {
    for (const auto& [key, set] : {std::pair{"add", o.add > 0}, {"context", o.context > 0}, {"only_new", o.only_new}})
      if (set) fail_usage("conditioning.{} says how to go on from a video, and there is none; name one: longtake extend VIDEO", key);
    return;
  }
  if (!(o.add > 0)) fail_usage("nothing says how much to add to the video; give --add SECONDS, such as --add 4");
  if (!o.image.empty()) fail_usage("a video begins with an image or goes on from a video, not both; leave out conditioning.image");
}

}  // namespace

const std::string& prompt_text(const GenerateOptions& options) { return options.prompts.empty() ? options.prompt : options.prompts; }

void validate_run(const GenerateOptions& options) {
  check_extension(options);
  if (!options.prompt.empty() && !options.prompts.empty())
    fail_usage("prompt and prompts exclude each other: one for the whole video, or a list over time; give one of them");
  if (!options.dry_run && prompt_text(options).empty())
    fail_usage("there is no prompt; say what the video shows with --prompt, or with --prompts FILE over time");
  if (!options.dry_run && options.out.empty()) fail_usage("there is no output file; name one with --out video.mp4");
  if (options.resume && options.overwrite_run)
    fail_usage("--resume and --overwrite-run exclude each other: go on with the run, or begin again");
  const std::string& device = options.device;
  const bool numbered = device.starts_with("cuda:") && device.size() > 5 && device.size() <= 8 &&
                        std::all_of(device.begin() + 5, device.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (device != "auto" && device != "cpu" && device != "cuda" && !numbered)
    fail_usage("run.device must be auto, cpu, cuda or cuda:N, found '{}'", printable(device));
}

void validate(const GenerateOptions& options) {
  validate_run(options);
  parse_policy(options.policy);
  plan_video(options);
  if (options.parity != "none" && !options.end_image.empty())
    fail_usage("--parity {} has no --end-image: the references lose it unless chunks are single frames; leave one of them out", options.parity);
  if (options.parity != "none" && options.history != "reencode")
    fail_usage("--parity {} needs --history reencode, as the reference does it", options.parity);
}

void check_length(const OptionSet& options) {
  if (options.values().video.empty()) return;
  for (const char* key : {"video.frames", "video.duration"})
    if (const OptionSource& source = options.source(key); source.level >= SourceLevel::config)
      fail_usage("{}: {} does not go with conditioning.video; --add says how many seconds follow it", source.where, key);
}

}  // namespace longtake
