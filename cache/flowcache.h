// FlowCache (arXiv 2602.10825) for residual caches: each chunk decides for itself, as a whole, when its accumulated step distance
// reaches a threshold. Spec: motioncache.md section 3 (the SkyReels-V2 variant); it is MotionCache without its token phase, and its
// decisions follow from the schedule alone.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cache/policy.h"
#include "cache/setting_keys.h"

namespace longtake {

struct FlowCacheSettings {
  static int residuals() { return 1; }
  double threshold = 0.1;  // epsilon: a chunk is recomputed when its accumulator reaches it
  int warmup = 4;          // the last of the first steps that are always computed
  bool last_step = true;   // the last step is always computed

  static std::vector<std::pair<std::string, FlowCacheSettings>> presets();  // slow 0.1, fast 0.15
  std::vector<SettingKey> keys();
};

class FlowCache final : public CachePolicy {
 public:
  // distance[s]: how much step s adds to an accumulator (step_distance.h).
  FlowCache(const FlowCacheSettings& settings, std::vector<double> distance, int branches)
      : settings_(settings), distance_(std::move(distance)), branches_(branches) {}

  void begin_window(int) override { accumulated_.clear(); }
  std::vector<Decision> decide(const StepContext& context) override;
  int residuals() const override { return FlowCacheSettings::residuals(); }
  std::string preview(int steps) const override;
  void save(State& state) const override;
  void load(const State& state, const StateLayout& layout) override;

 private:
  FlowCacheSettings settings_;
  std::vector<double> distance_;
  int branches_;
  std::map<int, float> accumulated_;  // by chunk; float32 as in the reference
};

}  // namespace longtake
