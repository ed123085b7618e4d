// What a comparison of policies measured, and how it is summed up and written: results.json and results.csv.
//
// The baselines are the plain policies `none` (upstream's full attention) and `causal` (keys and values reused, no
// cache). Every measure of closeness is against one of them with the same prompt and seed, that is from the same noise.
// Seconds are wall-clock, FLOPs are 2 * multiply-adds of the transformer blocks over all tokens of both branches,
// memory is in bytes.
#pragma once

#include <nlohmann/json.hpp>

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runtime/machine.h"
#include "runtime/policy_entry.h"
#include "video_io/bootstrap.h"
#include "video_io/follow.h"
#include "video_io/metrics.h"
#include "video_io/seams.h"

namespace longtake {

inline constexpr std::array<const char*, 2> kBaselines{"causal", "none"};

// How close one clip is to another.
struct Closeness {
  FrameQuality quality;
  std::vector<double> lpips;  // by frame; empty without weights
  std::optional<double> mean_lpips() const;
};

// One clip made with one policy.
struct ClipRun {
  int policy = 0, prompt = 0;  // indices
  uint64_t seed = 0;
  int order = 0;      // when it ran, from 1; the warm-up is not counted
  std::string error;  // why it has no results; "" where it has
  double denoise_seconds = 0, encode_seconds = 0, decode_seconds = 0, total_seconds = 0;
  double cpu_seconds = 0;  // of all threads, over the whole run
  double flops = 0, flops_without_reuse = 0;
  int64_t recomputed = 0, tokens = 0;  // over all rows and branches
  int64_t peak_bytes = 0;
  std::optional<double> other_load;  // share of the machine's CPU time that other processes had meanwhile
  std::string video;                 // relative to the folder of the comparison
  // By baseline; none for the baseline itself and where the baseline has no clip.
  std::array<std::optional<Closeness>, kBaselines.size()> raw, encoded;
  SeamReport seams;
  std::optional<PromptFollowing> following;  // where the prompt speaks of the demo world
  nlohmann::ordered_json following_report;
  std::vector<double> share_by_step;

  bool done() const { return error.empty(); }
  double recomputed_share() const {
    return tokens > 0 ? static_cast<double>(recomputed) / static_cast<double>(tokens) : 0;
  }
};

struct ComparedPolicy {
  PolicyEntry entry;
  bool added = false;      // as a baseline, not asked for
  bool same_noise = true;  // as the baselines: it cuts the video into windows of the same lengths
};

struct Comparison {
  std::string version, date, model, device, dtype, command;
  bool magi = false;  // the model's family
  Machine machine;
  std::string memory_meaning;
  nlohmann::ordered_json options;  // shared by all policies
  int frames = 0, height = 0, width = 0, fps = 0, steps = 0;
  std::vector<ComparedPolicy> policies;
  std::vector<std::string> prompts;
  std::vector<uint64_t> seeds;
  Borders borders;
  int windows = 1;
  std::string warmup;              // what ran first and is not counted; "" for nothing
  std::optional<bool> repeatable;  // whether the warm-up's frames came out the same when it ran again
  std::string lpips;               // the file's name; "" for none
  std::string missing_baselines;   // why a baseline is missing; "" where both are there
  int planned_runs = 0;
  double load_seconds = 0;    // model and text encoding, not in any run
  std::vector<ClipRun> runs;  // in the order they ran

  int policy_index(std::string_view label) const;  // -1 for none
};

// A number that every clip has, or some have. `digits` is for people.
struct Measure {
  std::string key;    // in JSON and CSV
  std::string title;  // in tables
  std::optional<double> (*value)(const ClipRun& run);
};

const std::vector<Measure>& measures();
const Measure& measure(std::string_view key);

// The mean over all clips of a policy that have it, with its interval. Count 0 where none has.
Estimate mean_of(const Comparison& comparison, int policy, const Measure& measure);

enum class Timing { denoise, total };
// Seconds of the baseline divided by seconds of the policy, both summed over the clips that both made.
Estimate speedup_of(const Comparison& comparison, int policy, int baseline_policy, Timing timing);

// The mean over clips by frame (or step); empty where no clip has it.
std::vector<double> mean_curve(const Comparison& comparison, int policy,
                               const std::function<const std::vector<double>*(const ClipRun&)>& values);

nlohmann::ordered_json comparison_json(const Comparison& comparison);
// A line for each run, all measures; RFC 4180, UTF-8, first line names the columns.
std::string comparison_csv(const Comparison& comparison);

// Mean share of CPU time that other programs had during the runs, and whether that is enough to distrust seconds.
double other_load_of(const Comparison& comparison);
bool busy_machine(const Comparison& comparison);

// What a reader must know so as not to be misled: sentences in the order of weight.
std::vector<std::string> caveats(const Comparison& comparison);

}  // namespace longtake
