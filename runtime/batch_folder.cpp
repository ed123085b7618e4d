#include "runtime/batch_folder.h"

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "base/pending_file.h"
#include "base/utf8.h"
#include "base/strict_json.h"
#include "runtime/batch_names.h"
#include "runtime/families.h"
#include "runtime/run_record.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr size_t kMaxJobNamesBytes = 64 << 20;

const json& field(const json& object, const char* key, const std::string& what) {
  const auto found = object.find(key);
  if (found == object.end()) fail_file("{}: expected the key '{}', which is not there; delete the file to have it made again", what, key);
  return *found;
}

[[noreturn]] void fail_field(const std::string& what, const char* key, const char* expected) {
  fail_file("{}: '{}' must be {}; delete the file to have it made again", what, key, expected);
}

std::string text_field(const json& object, const char* key, const std::string& what) {
  const json& value = field(object, key, what);
  if (!value.is_string()) fail_field(what, key, "a text");
  return value.get<std::string>();
}

double number_field(const json& object, const char* key, const std::string& what) {
  const json& value = field(object, key, what);
  const double number = value.is_number() ? value.get<double>() : -1;
  if (!(number >= 0) || !std::isfinite(number)) fail_field(what, key, "a number, not negative");
  return number;
}

uint64_t whole_field(const json& object, const char* key, const std::string& what) {
  const json& value = field(object, key, what);
  if (!value.is_number_unsigned()) fail_field(what, key, "a whole number, not negative");
  return value.get<uint64_t>();
}

void flatten(const json& value, const std::string& path, std::map<std::string, std::string>& out) {
  if (!value.is_object()) {
    out[path] = value.is_string() ? value.get<std::string>() : json_text(value);
    return;
  }
  for (const auto& [key, inner] : value.items()) flatten(inner, path.empty() ? key : path + "." + key, out);
}

}  // namespace

BatchFolder::BatchFolder(fs::path root, bool videos_apart) : root_(std::move(root)), apart_(videos_apart) {}

fs::path BatchFolder::workplace(const Shard& shard) const { return root_ / "tmp" / fmt::format("shard-{}-of-{}", shard.index, shard.count); }

void write_whole(const fs::path& path, const std::string& bytes) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) fail_file("{}: the folder cannot be created ({}); choose another place", path.parent_path().string(), error.message());
  write_whole_file(path, bytes);
}

json read_json_object(const fs::path& path, size_t max_bytes) {
  std::ifstream file(path, std::ios::binary);
  if (!file || fs::is_directory(path)) fail_file("{}: cannot be read; is the path right?", path.string());
  std::string text;
  char part[4096];
  do {
    file.read(part, sizeof(part));
    text.append(part, static_cast<size_t>(file.gcount()));
    if (text.size() > max_bytes) fail_file("{}: more than the {} bytes expected of such a file; is it the right one?", path.string(), max_bytes);
  } while (file);
  return parse_strict_json({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, path.string());
}

std::string json_text(const ordered_json& value, int indent) { return value.dump(indent, ' ', false, json::error_handler_t::replace); }

ordered_json video_settings(const OptionSet& options, const Recipe& recipe) {
  ordered_json settings = options.to_json(options_without_effect(recipe));
  settings.erase("out");
  settings["run"] = ordered_json::object({{"dtype", options.values().dtype}});
  if (options.values().precision != "auto") settings["run"]["precision"] = options.values().precision;
  if (options.values().vae_dtype != "auto") settings["run"]["vae_dtype"] = options.values().vae_dtype;
  return settings;
}

std::map<std::string, std::string> input_digests(const GenerateOptions& options, const FileDigest& digest) {
  std::map<std::string, std::string> digests;
  for (const auto& [key, file] : input_files(options)) digests[key] = digest(file);
  return digests;
}

VideoRecord read_record(const fs::path& path) {
  const std::string what = path.string();
  const json object = read_json_object(path);
  VideoRecord record;
  record.sha256 = text_field(object, "sha256", what);
  record.bytes = whole_field(object, "bytes", what);
  record.seconds = number_field(object, "seconds", what);
  record.seed = whole_field(object, "seed", what);
  record.weights = text_field(object, "weights", what);
  record.settings = field(object, "settings", what);
  if (!record.settings.is_object()) fail_field(what, "settings", "an object");
  if (const auto inputs = object.find("inputs"); inputs != object.end()) {
    if (!inputs->is_object()) fail_field(what, "inputs", "an object of texts");
    for (const auto& [key, value] : inputs->items()) {
      if (!value.is_string()) fail_field(what, "inputs", "an object of texts");
      record.inputs[key] = value.get<std::string>();
    }
  }
  return record;
}

std::string settings_difference(const json& recorded, const ordered_json& now) {
  std::map<std::string, std::string> before, after;
  flatten(recorded, "", before);
  flatten(json::parse(now.dump(-1, ' ', false, json::error_handler_t::replace)), "", after);
  std::string out;
  int count = 0;
  const auto differs = [&](const std::string& key, const std::string& was, const std::string& is) {
    if (++count <= 3) out += fmt::format("{}{} {}, now {}", out.empty() ? "" : "; ", printable(key), printable(was), printable(is));
  };
  for (const auto& [key, value] : before)
    if (const auto at = after.find(key); at == after.end() || at->second != value) differs(key, value, at == after.end() ? "not set" : at->second);
  for (const auto& [key, value] : after)
    if (!before.contains(key)) differs(key, "not set", value);
  if (count > 3) out += fmt::format("; and {} more", count - 3);
  return out;
}

VideoStatus video_status(const BatchFolder& folder, const BatchJob& job, const Recipe& recipe, const std::string& weights,
                         const FileDigest& digest) {
  std::error_code error;
  const fs::path video = folder.video(job.name);
  VideoStatus status;
  if (!fs::exists(fs::symlink_status(video, error))) return status;
  const auto other = [&](std::string why) {
    status.state = VideoState::other;
    status.why = std::move(why);
    return status;
  };
  if (!fs::is_regular_file(video, error)) return other("it is no regular file");
  const fs::path path = folder.record(job.name);
  if (!fs::exists(path, error)) return other("no record tells how it was made");
  status.record = read_record(path);
  const VideoRecord& record = *status.record;
  if (const std::string difference = settings_difference(record.settings, video_settings(job.options, recipe)); !difference.empty()) return other(difference);
  if (record.weights != weights) return other("it was made with other weights");
  for (const auto& [key, file] : input_files(job.options.values())) {
    if (!fs::exists(file, error)) continue;
    const auto then = record.inputs.find(key);
    if (then == record.inputs.end()) return other(fmt::format("its record does not tell the content of {}", printable(file.string())));
    if (then->second != digest(file)) return other(fmt::format("{} has changed since", printable(file.string())));
  }
  if (fs::file_size(video, error) != record.bytes || digest(video) != record.sha256) return other("the file has changed since it was made");
  status.state = VideoState::done;
  return status;
}

void write_job_names(const BatchFolder& folder, const std::vector<BatchJob>& jobs) {
  ordered_json names = ordered_json::array();
  for (const BatchJob& job : jobs) names.push_back(job.name);
  write_whole(folder.meta() / "jobs.json", json_text({{"version", 1}, {"names", names}}, 0) + "\n");
}

std::vector<std::string> read_job_names(const BatchFolder& folder) {
  const fs::path path = folder.meta() / "jobs.json";
  std::error_code error;
  if (!fs::exists(path, error)) fail_file("{} is no folder of a batch: meta/jobs.json is not there", folder.root().string());
  const json object = read_json_object(path, kMaxJobNamesBytes);
  const std::string what = path.string();
  if (whole_field(object, "version", what) != 1) fail_file("{}: expected version 1; it was written by another version of longtake", what);
  const json& list = field(object, "names", what);
  if (!list.is_array()) fail_field(what, "names", "a list");
  std::vector<std::string> names;
  for (const json& entry : list) {
    if (!entry.is_string()) fail_field(what, "names", "a list of texts");
    const std::string name = entry.get<std::string>();
    // At most one folder deep: SUITE/VIDEO.
    const size_t slash = name.find('/');
    const std::string fault = slash == std::string::npos ? name_fault(name) : name_fault(name.substr(0, slash)) + name_fault(name.substr(slash + 1));
    if (!fault.empty()) fail_file("{}: '{}' cannot be the name of a video: {}", what, printable(name), fault);
    names.push_back(name);
  }
  return names;
}

void write_manifest(const BatchFolder& folder, const std::vector<std::string>& names) {
  std::string lines;
  std::error_code error;
  for (const std::string& name : names) {
    const fs::path path = folder.record(name);
    // Between the check and the read another shard may only replace a record, never remove it.
    if (!fs::exists(path, error)) continue;
    std::ifstream file(path, std::ios::binary);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    const ordered_json record = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (record.is_object()) lines += json_text(record) + "\n";
  }
  write_whole(folder.meta() / "manifest.jsonl", lines);
}

BatchSummary summarize(const BatchFolder& folder, const std::vector<std::string>& names) {
  BatchSummary summary;
  std::error_code error;
  for (const std::string& name : names) {
    const fs::path path = folder.record(name), video = folder.video(name);
    if (fs::exists(path, error) && fs::is_regular_file(video, error)) {
      const VideoRecord record = read_record(path);
      if (fs::file_size(video, error) == record.bytes) {
        summary.done.push_back(name);
        summary.seconds += record.seconds;
        summary.bytes += static_cast<double>(record.bytes);
        continue;
      }
    }
    if (fs::exists(folder.failure(name), error))
      summary.failed.push_back({name, text_field(read_json_object(folder.failure(name)), "error", folder.failure(name).string())});
    else
      summary.missing.push_back(name);
  }
  return summary;
}

}  // namespace longtake
