#include "runtime/run_record.h"

#include <ATen/Version.h>
#if __has_include(<torch/headeronly/version.h>)
#include <torch/headeronly/version.h>
#else
#include <torch/csrc/api/include/torch/version.h>
#endif
#include <zlib.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/utf8.h"
#include "models/weights/mapped_file.h"
#include "runtime/families.h"
#include "runtime/video_model.h"
#include "runtime/windows.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

constexpr int kFormat = 2;
constexpr size_t kFingerprintBytes = size_t{1} << 20;

uint32_t crc(std::span<const uint8_t> part) { return static_cast<uint32_t>(crc32_z(crc32_z(0, nullptr, 0), part.data(), part.size())); }

std::string fingerprint(const fs::path& path) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  const size_t n = std::min(bytes.size(), kFingerprintBytes);
  return fmt::format("{} bytes, {:08x} {:08x}", bytes.size(), crc(bytes.first(n)), crc(bytes.last(n)));
}

// Of all its bytes: such files are small beside a model.
std::string whole_fingerprint(const fs::path& path) {
  const auto file = MappedFile::open(path);
  return fmt::format("{} bytes, {:08x}", file->bytes().size(), crc(file->bytes()));
}

void fingerprint_part(std::map<std::string, std::string>& out, const std::string& part, const fs::path& path) {
  if (path.empty()) return;
  if (!fs::is_directory(path)) {
    out[part] = fingerprint(path);
    return;
  }
  for (const char* extension : {".safetensors", ".bin", ".pth", ".pt", ".ckpt"}) {
    bool any = false;
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.path().extension() != extension) continue;
      out[part + "/" + entry.path().filename().string()] = fingerprint(entry.path());
      any = true;
    }
    if (any) return;  // where a folder has several, the first ones count (checkpoint.h)
  }
}

// The number of frames is compared as it comes out, however it was asked for.
bool is_length(const std::string& key) { return key == "video.frames" || key == "video.duration"; }

GenerateOptions parsed(const RunRecord& record, const std::string& origin) {
  OptionSet options;
  apply_record(options, record, origin);
  return options.values();
}

// With one window, or carried latents, no latents depend on decoded frames: how these are decoded may change.
bool frames_feed_back(const Recipe& recipe, const GenerateOptions& options) {
  return !is_magi(recipe) && options.history == "reencode" && plan_video(options).windows.size() > 1;
}

bool may_differ(const OptionInfo& info, const Recipe& recipe, const GenerateOptions& begun) {
  if (info.key == "run.decode_latents") return !frames_feed_back(recipe, begun);
  return info.free_on_resume;
}

// `now`: all options as text.
void compare_options(const RunRecord& begun, const std::map<std::string, std::string>& now, const Recipe& recipe, const OptionSet& options,
                     const std::string& origin) {
  constexpr const char* advice = "take it back to go on, or begin again with --overwrite-run";
  const GenerateOptions then = parsed(begun, origin);
  for (const OptionInfo& info : option_schema()) {
    if (is_length(info.key) || may_differ(info, recipe, then)) continue;
    const std::string &before = begun.options.at(info.key), &after = now.at(info.key);
    if (before == after) continue;
    fail_usage("{}: {} is '{}', but the run in {} was begun with '{}'; {}", options.source(info.key).where, info.key,
               printable(after), origin, printable(before), advice);
  }
  const int frames_before = video_frames(recipe, then), frames_after = video_frames(recipe, options.values());
  if (frames_before != frames_after)
    fail_usage("the video would have {} frames, but the run in {} was begun with {}; {}", frames_after, origin, frames_before,
               advice);
}

std::map<std::string, std::string> texts_of(const GenerateOptions& options) {
  std::map<std::string, std::string> texts;
  for (const OptionInfo& info : option_schema()) texts[info.key] = option_text(options, info);
  return texts;
}

[[noreturn]] void refuse_input(const OptionInfo& info, const std::string& path, const std::string& origin, const std::string& then,
                               const std::string& now) {
  fail_file("the file of {} ({}) is another one than the run in {} was begun with (then {}, now {}); put it back, or begin again with "
            "--overwrite-run",
            info.flag(), printable(path), origin, then, now);
}

void check_same_inputs(const RunRecord& begun, const RunRecord& now, const std::string& origin) {
  constexpr const char* nothing = "none";
  for (const OptionInfo& info : option_schema()) {
    const auto before = begun.inputs.find(info.key), after = now.inputs.find(info.key);
    const std::string then = before == begun.inputs.end() ? nothing : before->second, found = after == now.inputs.end() ? nothing : after->second;
    if (then != found) refuse_input(info, now.options.at(info.key), origin, then, found);
  }
}

}  // namespace

std::map<std::string, fs::path> input_files(const GenerateOptions& options) {
  std::map<std::string, fs::path> files;
  if (!options.image.empty()) files["conditioning.image"] = options.image;
  if (!options.end_image.empty()) files["conditioning.end_image"] = options.end_image;
  if (!options.video.empty()) files["conditioning.video"] = options.video;
  return files;
}

namespace {

nlohmann::ordered_json unsealed(const RunRecord& record) {
  nlohmann::ordered_json json;
  json["format"] = kFormat;
  json["version"] = record.version;
  json["options"] = record.options;
  json["model"] = record.model;
  json["inputs"] = record.inputs;
  json["environment"] = record.environment;
  return json;
}

std::string text_of(const nlohmann::ordered_json& json) { return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"; }

// Of a record's text without it: a flipped bit in a seed would still be a seed.
uint32_t seal(const RunRecord& record) {
  const std::string text = text_of(unsealed(record));
  return crc({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

}  // namespace

std::string RunRecord::to_json() const {
  nlohmann::ordered_json json = unsealed(*this);
  json["crc32"] = seal(*this);
  return text_of(json);
}

RunRecord RunRecord::from_json(const std::string& text, const std::string& origin) {
  const auto refuse = [&](const std::string& reason) { fail_file("{}: {}; this is no run folder of this program", origin, reason); };
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) refuse("expected a JSON object");
  for (const auto& [key, value] : json.items())
    if (key != "format" && key != "version" && key != "options" && key != "model" && key != "inputs" && key != "environment" &&
        key != "crc32")
      refuse(fmt::format("unknown key '{}'", printable(key)));
  if (json.contains("format") && json["format"].is_number_integer() && json["format"] < kFormat)
    fail_file("{}: was begun by an earlier longtake, which wrote other records; go on with that one, or begin again with --overwrite-run", origin);
  if (!json.contains("format") || json["format"] != kFormat) refuse(fmt::format("expected format {}", kFormat));
  RunRecord record;
  if (!json.contains("version") || !json["version"].is_string()) refuse("'version' should be text");
  record.version = json["version"].get<std::string>();
  const auto texts = [&](const char* key) {
    std::map<std::string, std::string> out;
    if (!json.contains(key) || !json[key].is_object()) refuse(fmt::format("'{}' should be an object", key));
    for (const auto& [name, value] : json[key].items()) {
      if (!value.is_string()) refuse(fmt::format("'{}' should hold text alone, found another value at '{}'", key, printable(name)));
      out[name] = value.template get<std::string>();
    }
    return out;
  };
  record.options = texts("options");
  record.model = texts("model");
  record.inputs = texts("inputs");
  record.environment = texts("environment");
  for (const OptionInfo& info : option_schema())
    if (!record.options.contains(info.key)) refuse(fmt::format("the option {} is missing", info.key));
  for (const auto& [key, value] : record.options)
    if (!find_option(key)) refuse(fmt::format("'{}' is no option", printable(key)));
  if (!json.contains("crc32") || json["crc32"] != seal(record))
    fail_file("{} is damaged or was edited: its checksum is that of other values; begin again with --overwrite-run", origin);
  return record;
}

RunRecord make_run_record(const GenerateOptions& options, const ModelFiles& files, const std::string& version,
                          const std::string& device, int threads) {
  LONGTAKE_CHECK(options.seed, "expected a seed");
  GenerateOptions found = options;
  found.device = device;
  found.threads = threads;
  RunRecord record;
  record.version = version;
  record.options = texts_of(found);
  fingerprint_part(record.model, "transformer", files.transformer);
  fingerprint_part(record.model, "vae", files.vae);
  fingerprint_part(record.model, "text_encoder", files.text_encoder);
  fingerprint_part(record.model, "tokenizer", files.tokenizer);
  fingerprint_part(record.model, "special_tokens", files.special_tokens);
  for (const auto& [key, path] : input_files(options)) record.inputs[key] = whole_fingerprint(path);
  record.environment["libtorch"] = TORCH_VERSION;
  record.environment["instructions"] = at::get_cpu_capability();
  return record;
}

void apply_record(OptionSet& options, const RunRecord& record, const std::string& origin) {
  const auto& given = record.options;
  const bool by_duration = given.at("video.frames") == "0";
  for (const auto& [key, value] : given) {
    if (key == (by_duration ? "video.frames" : "video.duration")) continue;
    // The output is where the folder lies now, and what the last call asked of the folder is not asked again.
    if (key == "out" || key == "run.resume" || key == "run.overwrite_run" || key == "run.dry_run" || key == "run.record_plan") continue;
    options.set({key, value, origin}, SourceLevel::recipe);
  }
}

void check_same_options(const RunRecord& begun, const Recipe& recipe, const OptionSet& options, const std::string& origin) {
  auto now = texts_of(options.values());
  // The record has the device as it was found: without a number, since GPUs of one kind give the same bits.
  const std::string& device = options.values().device;
  now["run.device"] = device == "auto" ? begun.options.at("run.device") : device.starts_with("cuda") ? "cuda" : device;
  if (options.values().threads == 0) now["run.threads"] = begun.options.at("run.threads");
  compare_options(begun, now, recipe, options, origin);
}

void check_same_run(const RunRecord& begun, const RunRecord& now, const Recipe& recipe, const OptionSet& options, const std::string& origin) {
  compare_options(begun, now.options, recipe, options, origin);
  if (begun.version != now.version)
    fail_file("the run in {} was begun by longtake {}, this is {}, which may compute other values; go on with that version, keep what "
              "is there with longtake decode, or begin again with --overwrite-run",
              origin, begun.version, now.version);
  for (const auto& [part, print] : begun.model)
    if (const auto found = now.model.find(part); found == now.model.end() || found->second != print)
      fail_file("the model's {} is another file than the one that the run in {} was begun with (then {}, now {}); put it back, or "
                "begin again with --overwrite-run",
                part, origin, print, found == now.model.end() ? "missing" : found->second);
  if (begun.model.size() != now.model.size())
    fail_file("the model has more files than when the run in {} was begun; put it back, or begin again with --overwrite-run", origin);
  check_same_inputs(begun, now, origin);
}

void check_same_file(const RunRecord& begun, const std::string& key, const fs::path& path, const std::string& origin) {
  const auto then = begun.inputs.find(key);
  const std::string now = whole_fingerprint(path);
  if (then == begun.inputs.end() || then->second != now)
    refuse_input(*find_option(key), path.string(), origin, then == begun.inputs.end() ? "none" : then->second, now);
}

std::string text_encoder_fingerprint(const ModelFiles& files) {
  std::map<std::string, std::string> parts;
  fingerprint_part(parts, "text_encoder", files.text_encoder);
  fingerprint_part(parts, "tokenizer", files.tokenizer);
  std::string out = fmt::format("LibTorch {}, {}", TORCH_VERSION, at::get_cpu_capability());
  for (const auto& [part, print] : parts) out += fmt::format("; {} {}", part, print);
  return out;
}

void check_same_vae(const RunRecord& begun, const ModelFiles& files, const std::string& origin) {
  std::map<std::string, std::string> now;
  fingerprint_part(now, "vae", files.vae);
  for (const auto& [part, print] : now)
    if (const auto found = begun.model.find(part); found == begun.model.end() || found->second != print)
      fail_file("the model's {} is another file than the one that the run in {} was begun with (then {}, now {}); put it back", part, origin,
                found == begun.model.end() ? "missing" : found->second, print);
}

std::string environment_note(const RunRecord& begun, const RunRecord& now) {
  std::string note;
  for (const auto& [key, value] : begun.environment) {
    const auto found = now.environment.find(key);
    const std::string present = found == now.environment.end() ? "nothing" : found->second;
    if (present != value) note += fmt::format("{}{} {} then, {} now", note.empty() ? "" : "; ", key, printable(value), present);
  }
  return note.empty() ? note : "the run was begun elsewhere (" + note + "): what is still to come may differ in its last bits";
}

}  // namespace longtake
