// MotionCache (arXiv 2605.01725) for residual caches: coarse decisions per chunk, then fine ones per token, where tokens that
// move gather error faster. Spec: motioncache.md 1.3 - 1.8 (the SkyReels-V2 variant), its faults in section 4.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cache/motion_map.h"
#include "cache/policy.h"
#include "cache/setting_keys.h"

namespace longtake {

enum class WeightNorm { max_rescale, max, mean };  // how a frame's motion map becomes weights (spec 1.5)

struct MotionCacheSettings {
  static int residuals() { return 1; }
  double threshold = 0.1;      // tau: a token is recomputed when its accumulator reaches it
  int warmup = 4;              // the last of the first steps that are always computed (4 means steps 0 ... 4)
  int phase1 = 6;              // K: whole-chunk updates before decisions become per token
  double floor = 0.6;          // alpha: weight of a token that does not move
  bool vote = true;            // a spatial column is recomputed in all frames or in none
  double vote_share = 0.5;     // ... when more than this share of its frames asks for it
  double min_ratio = 0.4;      // fewer tokens than this: recompute none
  WeightNorm norm = WeightNorm::max_rescale;

  // Corrections of the reference (spec sections 4 and 6); all false in parity mode.
  bool shared_mask = true;        // one mask for both branches, so that guidance never mixes fresh and cached tokens
  bool last_step = true;          // the last step is always computed
  bool fresh_reference = true;    // a window's first new chunk is compared with the prefix, not with an old window

  // The released settings are the slow ones; the fast ones were not released and are the slow ones with FlowCache's fast threshold.
  static std::vector<std::pair<std::string, MotionCacheSettings>> presets();
  std::vector<SettingKey> keys();
};

class MotionCache final : public CachePolicy {
 public:
  // distance[s]: how much step s adds to an accumulator of weight 1 (step_distance.h).
  MotionCache(const MotionCacheSettings& settings, std::vector<double> distance, int branches);

  void begin_window(int window) override;
  std::vector<Decision> decide(const StepContext& context) override;
  void observe(const StepContext& context, int branch, const at::Tensor& hidden) override;
  int residuals() const override { return MotionCacheSettings::residuals(); }
  std::string preview(int steps) const override;
  void save(State& state) const override;
  void load(const State& state, const StateLayout& layout) override;

  // Whether the chunk's next decision is made per token.
  bool per_token(int chunk, int branch) const;
  // Says that the tokens of `mask` [frames, plane] are recomputed in this step though decide() did not ask for them: their accumulators
  // start anew, and a whole chunk counts as an update.
  void recomputed(const StepContext& context, int branch, const at::Tensor& mask);

 private:
  struct BranchState {
    at::Tensor accumulated;  // [frames, plane] float32
    at::Tensor weight;       // [frames, plane] float32, undefined before the token phase
  };
  struct ChunkState {
    std::vector<BranchState> branch;
    std::vector<int> updates;       // phase-1 updates so far, per branch (equal unless the masks differ)
    std::vector<bool> token_phase;  // per branch
  };
  void start_over(ChunkState& chunk, int branch, const at::Tensor& mask);
  at::Tensor wanted(const StepContext& context, ChunkState& chunk, int branch);
  at::Tensor settle(const StepContext& context, const at::Tensor& need) const;
  at::Tensor motion_weight(const StepContext& context, int branch, const at::Tensor& hidden);

  MotionCacheSettings settings_;
  std::vector<double> distance_;
  int branches_;
  at::Device device_ = at::kCPU;
  std::map<int, ChunkState> chunks_;
  MotionMap motion_;
};

}  // namespace longtake
