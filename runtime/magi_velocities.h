// What chunks keep of their computed steps: guided velocities, reused or predicted where nothing is computed.
#pragma once

#include "cache/residual.h"

namespace longtake::magi {

class KeptVelocities {
 public:
  // kept: computed velocities of a token, as the policy asks; 0 keeps nothing, and every token must be computed.
  explicit KeptVelocities(int kept) : kept_(kept), residuals_(kept) {}

  // computed [C, F, h, w] float32, of no meaning outside the decision's tokens; undefined where it computes none -> the
  // velocity of the whole chunk, on `latents`' shape and device. level: 1 - t, by which predictions go. `moved`, where
  // wanted, becomes CachePolicy::changed's [tokens], undefined where there was no velocity before.
  at::Tensor complete(int chunk, const Decision& decision, const at::Tensor& computed, const at::Tensor& latents,
                      double level, at::Tensor* moved);

  void forget(int chunk) { residuals_.forget(chunk); }
  void save(State& state) const { residuals_.save(state); }
  void load(const State& state, const StateLayout& layout) { residuals_.load(state, layout); }

 private:
  int kept_;
  ResidualCache residuals_;
};

}  // namespace longtake::magi
