// The folder of a batch: its videos, and beside them what tells finished ones from others. State lives in files of one video
// each, which appear whole by rename, so that shards share a folder without talking to each other.
//
//   NAME.mp4, or videos/NAME.mp4      the videos and nothing else
//   meta/jobs.json                    the names of all videos, for status
//   meta/records/NAME.json            of a finished video: prompt, seed, settings, model, sha256, seconds, work
//   meta/failed/NAME.json             of one that failed: the error
//   meta/manifest.jsonl               all records, a line each, written anew at the end of a run
//   tmp/                              videos in the making
//
// A record is written before its video is put in place: a crash between the two leaves a video to be made (again), never one
// without a record. Records are read as untrusted input; errors: bad_file with the path.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/batch_file.h"

namespace longtake {

// SHA-256 of a file's bytes in hexadecimal.
using FileDigest = std::function<std::string(const std::filesystem::path&)>;

class BatchFolder {
 public:
  // Videos lie in `root` itself, or in its folder `videos`.
  explicit BatchFolder(std::filesystem::path root, bool videos_apart = false);

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path videos() const { return apart_ ? root_ / "videos" : root_; }
  std::filesystem::path meta() const { return root_ / "meta"; }
  std::filesystem::path video(const std::string& name) const { return videos() / (name + ".mp4"); }
  std::filesystem::path record(const std::string& name) const { return meta() / "records" / (name + ".json"); }
  std::filesystem::path failure(const std::string& name) const { return meta() / "failed" / (name + ".json"); }
  // A shard's own folder for videos in the making.
  std::filesystem::path workplace(const Shard& shard) const;

 private:
  std::filesystem::path root_;
  bool apart_;
};

// Creates the folders above the file, writes it under a temporary name and renames it.
void write_whole(const std::filesystem::path& path, const std::string& bytes);

// A JSON object from a file of at most `max_bytes`, strictly.
nlohmann::json read_json_object(const std::filesystem::path& path, size_t max_bytes = 1 << 20);

// Like nlohmann's dump, with bytes that are not UTF-8 replaced. `indent` -1: one line.
std::string json_text(const nlohmann::ordered_json& json, int indent = -1);

// The settings that decide how a video of a model of this recipe looks: without output, device, logs and the like.
nlohmann::ordered_json video_settings(const OptionSet& options, const Recipe& recipe);

// By option key: the digests of the pictures and the video that a job is given.
std::map<std::string, std::string> input_digests(const GenerateOptions& options, const FileDigest& digest);

struct VideoRecord {
  std::string sha256;
  uint64_t bytes = 0;
  double seconds = 0;  // from noise to file, without loading
  uint64_t seed = 0;
  std::string weights;       // what tells one set of weights from another
  nlohmann::json settings;   // video_settings()
  std::map<std::string, std::string> inputs;  // input_digests(); empty where the file has none
};

// The parts that are needed again. The file may hold more.
VideoRecord read_record(const std::filesystem::path& path);

enum class VideoState {
  missing,     // to be made
  done,        // record and file agree with what is asked for
  other,       // there, but not what is asked for (or not known to be)
};

struct VideoStatus {
  VideoState state = VideoState::missing;
  std::string why;  // where it is other
  std::optional<VideoRecord> record;
};

// Compares settings, weights, the contents of pictures and videos that the job is given, size and digest, in this order. A file that was given
// and is gone counts as unchanged: nothing else could be made of it.
VideoStatus video_status(const BatchFolder& folder, const BatchJob& job, const Recipe& recipe, const std::string& weights, const FileDigest& digest);

// The first keys in which two settings differ: "sampling.steps 8, now 4".
std::string settings_difference(const nlohmann::json& recorded, const nlohmann::ordered_json& now);

void write_job_names(const BatchFolder& folder, const std::vector<BatchJob>& jobs);
// Checked: each name stays within the folder.
std::vector<std::string> read_job_names(const BatchFolder& folder);

// All records of the names, one JSON line each, in their order.
void write_manifest(const BatchFolder& folder, const std::vector<std::string>& names);

struct BatchSummary {
  struct Failure {
    std::string name, error;
  };
  std::vector<std::string> done, missing;
  std::vector<Failure> failed;
  double seconds = 0;  // of the finished videos
  double bytes = 0;
};

// What all shards have done so far. A video counts as done where its record and a file of the recorded size are there.
BatchSummary summarize(const BatchFolder& folder, const std::vector<std::string>& names);

}  // namespace longtake
