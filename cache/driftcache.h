// DriftCache: what is not computed is predicted, and computed again when its prediction has probably drifted too far. longtake's own
// policy.
//
// Putting R' where the residual R would be right costs |R - R'|. Each time a token is recomputed that is measured for nothing, and how
// fast a token drifts hardly changes from step to step: ranked by their last change, tokens come in nearly the order of the next one,
// which motion does not tell (`longtake calibrate` prints both; docs/policies.md). R' is predicted along the line through the last two
// computed residuals (residual.h), whose error grows with the square of the distance, or reused, whose error grows with the distance.
// So with step distances D (step_distance.h), p = 2 or 1, and S = the sum of D since a token was last computed:
//   rate  = |R - R'|_2 / mean|R'|_2 / S^p, measured when it is recomputed
//   drift = rate * S^p, the larger of the branches
// and what has drifted as far as the threshold is recomputed in both branches: the chunk (by its mean drift), columns (a spatial
// position in all frames of the chunk, by their mean drift) or single tokens. The first steps and the last one are computed in full.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cache/policy.h"
#include "cache/setting_keys.h"

namespace longtake {

enum class DriftUnit { chunk, column, token };

struct DriftCacheSettings {
  double threshold = 0.05;  // drift, relative to the mean residual, at which a token is recomputed
  int warmup = 2;           // the last of the first steps that are always computed; 1 or more, as rates need two residuals
  DriftUnit unit = DriftUnit::chunk;
  double min_ratio = 0.4;   // fewer tokens than this: recompute none; they go on drifting, and are taken together later
  Rest rest = Rest::predict;  // of the tokens that are not recomputed
  double clip = 1;          // a prediction moves a residual by at most this many times its last measured change
  bool last_step = true;    // the last step is always computed

  int residuals() const { return rest == Rest::predict ? 2 : 1; }
  static std::vector<std::pair<std::string, DriftCacheSettings>> presets();
  std::vector<SettingKey> keys();
};

class DriftCache final : public CachePolicy {
 public:
  // distance[s]: how far step s lies from the one before.
  DriftCache(const DriftCacheSettings& settings, std::vector<double> distance, int branches)
      : settings_(settings), distance_(std::move(distance)), branches_(branches) {}

  void begin_window(int) override { tokens_.clear(); }
  std::vector<Decision> decide(const StepContext& context) override;
  bool wants_change() const override { return true; }
  void changed(const StepContext& context, int branch, const at::Tensor& moved) override;
  int residuals() const override { return settings_.residuals(); }
  std::string preview(int steps) const override;
  void save(State& state) const override;
  void load(const State& state, const StateLayout& layout) override;

 private:
  struct Tokens {
    at::Tensor rate;    // [frames, plane] float32; undefined before two residuals
    at::Tensor since;   // [frames, plane] float32: distance since a token was computed; undefined before the first residual
    at::Tensor chosen;  // [frames, plane] bool: of this step; undefined for all
  };
  bool forced(const StepContext& context) const;
  at::Tensor grown(const at::Tensor& since) const;  // S^p

  DriftCacheSettings settings_;
  std::vector<double> distance_;
  int branches_;
  std::map<std::pair<int, int>, Tokens> tokens_;  // (chunk, branch)
};

}  // namespace longtake
