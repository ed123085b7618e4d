// Recompute, reuse and predict: MotionCache's choice of tokens, but where it would reuse a residual this policy predicts it from
// the last two computed ones (residual.h). After SCOPE (arXiv 2604.02979), which adds prediction in the noise level as a third verb;
// spec: other_policies.md. A prediction is bounded, and a token is predicted only so many times in a row: then it is computed.
#pragma once

#include <map>

#include "cache/motioncache.h"

namespace longtake {

struct PredictSettings {
  static int residuals() { return 2; }
  MotionCacheSettings motion;
  double clip = 0.5;  // a prediction moves a residual by at most this many times its last measured change
  int limit = 4;    // predictions of a token in a row

  static std::vector<std::pair<std::string, PredictSettings>> presets();  // with MotionCache's slow and fast thresholds
  std::vector<SettingKey> keys();
};

class Predict final : public CachePolicy {
 public:
  Predict(const PredictSettings& settings, std::vector<double> distance, int branches);

  void begin_window(int window) override;
  std::vector<Decision> decide(const StepContext& context) override;
  void observe(const StepContext& context, int branch, const at::Tensor& hidden) override;
  int residuals() const override { return PredictSettings::residuals(); }
  std::string preview(int steps) const override;
  void save(State& state) const override;
  void load(const State& state, const StateLayout& layout) override;

 private:
  // Adds the tokens that reached the limit to the decision and counts the others' predictions.
  void limit(const StepContext& context, int branch, Decision& decision);

  PredictSettings settings_;
  std::vector<double> distance_;
  MotionCache motion_;
  at::Device device_ = at::kCPU;
  std::map<std::pair<int, int>, at::Tensor> predicted_;  // (chunk, branch) -> predictions in a row, int32 [frames, plane]
};

}  // namespace longtake
