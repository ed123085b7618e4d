// TeaCache (arXiv 2411.19108) as upstream SkyReels-V2 wires it: one decision a row for all chunks at once, from how much the
// conditioning vectors of all tokens of the window changed since the row before. Chunks that wait or are finished add nothing to
// the change and all of theirs to the size. Spec: skyreels_v2.md appendix B (its "retention steps" form), motioncache.md
// section 3; without upstream's counter, which wraps in mid-run and so repeats the forced rows.
//
// It runs on full attention over the window, as published, or on causal chunks. There a chunk that starts has no residual and is
// computed whatever the row decides.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cache/policy.h"
#include "cache/setting_keys.h"
#include "cache/step_distance.h"

namespace longtake {

struct TeaCacheSettings {
  static int residuals() { return 1; }
  AttentionScheme base = AttentionScheme::window;
  double threshold = 0.2;  // a row is computed when the accumulator reaches it
  int ret = 5;             // a window's first rows, which are always computed
  bool last_row = true;    // a window's last row is always computed (upstream means to, and its counter prevents it)

  // Upstream's own values, 0.2 (its default) and 0.3 (its README): those behind published tables are not known.
  static std::vector<std::pair<std::string, TeaCacheSettings>> presets();
  std::vector<SettingKey> keys();
};

class TeaCache final : public CachePolicy {
 public:
  // distance(r): what a relative change r of a row adds to the accumulator.
  TeaCache(const TeaCacheSettings& settings, ConditioningChange change, std::function<double(double)> distance, int branches)
      : settings_(settings), change_(std::move(change)), distance_(std::move(distance)), branches_(branches) {}

  void begin_window(int window) override;
  void begin_row(const RowContext& row) override;
  std::vector<Decision> decide(const StepContext& context) override;
  int residuals() const override { return TeaCacheSettings::residuals(); }
  std::string preview(int steps) const override { return std::string(steps, '?'); }
  void save(State& state) const override;
  void load(const State& state, const StateLayout& layout) override;

 private:
  TeaCacheSettings settings_;
  ConditioningChange change_;
  std::function<double(double)> distance_;
  int branches_;
  std::vector<double> before_;  // by chunk, the timestep in the row before this one; none in a window's first
  double accumulated_ = 0;
  Decision row_;                // of the row
};

}  // namespace longtake
