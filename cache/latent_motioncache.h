// MotionCache (arXiv 2605.01725) on models whose steps differ in what they see, not in a conditioning vector alone: changes are measured
// on embedded latents and motion on latents. First whole chunks are computed or reused, then tokens, where those that move gather error
// faster. Spec: motioncache.md 2 (the MAGI-1 variant) and 4.
//
// It expects what runtime/magi_denoise.h shows to policies. FlowCache (spec section 3) is its first phase alone.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cache/input_change.h"
#include "cache/motion_map.h"
#include "cache/policy.h"
#include "cache/setting_keys.h"

namespace longtake {

struct LatentMotionCacheSettings {
  int residuals() const { return predict ? 2 : 1; }
  bool extras = false;              // latent_base.h
  double threshold = 0.0065;        // a chunk is recomputed when its accumulator reaches it
  double token_threshold = 0.0065;  // ... a token
  int warmup = 4;                   // the last of the first steps that are always computed (4 means steps 0 ... 4)
  int chunk_steps = 20;             // steps behind them that decide for the whole chunk
  bool tokens = true;               // then decide per token; off, every later step decides for the whole chunk too
  double floor = 0.6;               // alpha: weight of a token that does not move
  double power = 1;                 // of a frame's motion, scaled to 0 ... 1
  bool own_distance = false;        // tokens add their own change, not their chunk's
  bool first_weights = false;       // weights stay as they are after a chunk's first step
  // At most this share of a chunk's tokens is reused: the first at the first step that decides per token, then less by
  // (first - last) / steps each step.
  double reuse_first = 1, reuse_last = 1;
  // What is not computed is predicted from the last two computed values (residual.h), not reused.
  bool predict = false;
  double clip = 1;           // a prediction moves a value by at most this many times its last measured change
  bool vote = false;         // a spatial column is recomputed in all frames ...
  double vote_share = 0.7;   // ... when more than this share of them is

  // Corrections of the reference (spec 2.3, 2.4, 4); all false in parity mode.
  bool carry = true;                 // what a chunk has gathered when decisions become per token, its tokens begin with
  bool last_step = true;             // the last step is always computed
  bool decide_last_row = true;       // the reference decides nothing in a run's last row and repeats the row before it
  bool compared_first_frame = true;  // the video's first frame takes over the second one's motion; in the reference it weighs 1

  // The released settings; faster ones were not released, and fast is FlowCache's fast threshold.
  static std::vector<std::pair<std::string, LatentMotionCacheSettings>> presets();
  std::vector<SettingKey> keys();
};

struct LatentFlowCacheSettings {
  static int residuals() { return 1; }
  bool extras = false;  // latent_base.h
  double threshold = 0.01;
  int warmup = 4;
  bool last_step = true;

  static std::vector<std::pair<std::string, LatentFlowCacheSettings>> presets();  // slow 0.01, fast 0.015
  std::vector<SettingKey> keys();
  LatentMotionCacheSettings motioncache() const;
};

class LatentMotionCache final : public CachePolicy {
 public:
  explicit LatentMotionCache(const LatentMotionCacheSettings& settings) : settings_(settings) {}

  void begin_window(int window) override;
  void begin_row(const RowContext& row) override;
  void input(const StepContext& context, const at::Tensor& embedded) override;
  std::vector<Decision> decide(const StepContext& context) override;
  void observe(const StepContext& context, int branch, const at::Tensor& latents) override;
  int residuals() const override { return settings_.residuals(); }
  std::string preview(int steps) const override;
  void save(State& state) const override;
  void load(const State& state, const StateLayout& layout) override;

  // For tests and traces: what the chunk and its tokens (undefined before they decide) have gathered, and what the latter weigh.
  struct ChunkState {
    double gathered = 0;
    at::Tensor by_token;  // [frames, plane] float32
    at::Tensor weight;    // [frames, plane] float32
    at::Tensor computed;  // bool [frames, plane], of the last step that decided per token
  };
  const ChunkState& chunk(int chunk) const { return chunks_.at(chunk); }

 private:
  bool per_token(int step) const { return settings_.tokens && step > settings_.warmup + settings_.chunk_steps; }
  at::Tensor limited(const StepContext& context, const at::Tensor& gathered, const at::Tensor& need) const;
  at::Tensor tokens_to_compute(const StepContext& context, ChunkState& chunk, const InputChange::Change& change) const;
  at::Tensor weights(const StepContext& context, const at::Tensor& latents);

  LatentMotionCacheSettings settings_;
  InputChange inputs_;
  std::map<int, InputChange::Change> changes_;  // of the row, by chunk
  MotionMap motion_{MotionMeasure::absolute};
  std::map<int, ChunkState> chunks_;
  bool last_row_ = false;
};

}  // namespace longtake
