// TeaCache (arXiv 2411.19108) where changes are measured on embedded latents: one decision a row for all chunks in flight, from how much
// those that were in flight in the row before have changed. Spec: motioncache.md section 3 (MAGI-1), without its faults (B2, and chunks
// compared with others when the window moves on). A chunk that starts is computed whatever the row decides.
//
// It expects what runtime/magi_denoise.h shows to policies.
#pragma once

#include <string>
#include <vector>

#include "cache/input_change.h"
#include "cache/policy.h"
#include "cache/setting_keys.h"

namespace longtake {

struct LatentTeaCacheSettings {
  static int residuals() { return 1; }
  bool extras = false;      // latent_base.h
  double threshold = 0.01;  // a row is computed when the accumulator reaches it
  int ret = 5;              // the first rows, which are always computed
  bool last_row = true;     // the last row is always computed

  // 0.01 and 0.02: the MotionCache fork's values for VBench and for single runs; those behind published tables are not known.
  static std::vector<std::pair<std::string, LatentTeaCacheSettings>> presets();
  std::vector<SettingKey> keys();
};

class LatentTeaCache final : public CachePolicy {
 public:
  explicit LatentTeaCache(const LatentTeaCacheSettings& settings) : settings_(settings) {}

  void begin_window(int window) override;
  void begin_row(const RowContext& row) override;
  void input(const StepContext& context, const at::Tensor& embedded) override;
  std::vector<Decision> decide(const StepContext& context) override;
  int residuals() const override { return LatentTeaCacheSettings::residuals(); }
  std::string preview(int steps) const override { return std::string(steps, '?'); }
  void save(State& state) const override;
  void load(const State& state, const StateLayout& layout) override;

 private:
  void settle();

  LatentTeaCacheSettings settings_;
  InputChange inputs_;
  double accumulated_ = 0;
  int rows_ = 0;                // that moved a chunk, this one included
  at::Tensor moved_, size_;     // of the row, over all chunks that were there before; undefined for none
  bool last_ = false;
  bool settled_ = false;
  Decision row_;
};

}  // namespace longtake
