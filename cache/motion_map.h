// How much each token moves: the change of its last hidden state, or its latents, from one latent frame to the next (spec motioncache.md
// 1.5 and 2.4).
#pragma once

#include <ATen/core/Tensor.h>

#include <map>

#include "cache/policy.h"
#include "cache/row_ops.h"
#include "cache/state_layout.h"

namespace longtake {

class MotionMap {
 public:
  explicit MotionMap(MotionMeasure measure = MotionMeasure::relative) : measure_(measure) {}

  // hidden [frames, plane, dim] of a chunk in a branch -> [frames, plane] float32. The first frame is compared with the last one
  // of the chunk before it, as that was seen last; the first chunk's first frame takes over the second one's, and where there is nothing to
  // compare with all tokens move by 1.
  at::Tensor measure(const StepContext& context, int branch, const at::Tensor& hidden);

  // A chunk that is only compared with: its last frame is remembered.
  void remember(const StepContext& context, int branch, const at::Tensor& hidden);
  void forget() { last_frame_.clear(); }

  // "policy/last_frame/CHUNK/BRANCH" and the list of them.
  void save(State& state) const;
  void load(const State& state, const StateLayout& layout);

 private:
  MotionMeasure measure_;
  std::map<std::pair<int, int>, at::Tensor> last_frame_;  // (chunk, branch) -> [plane, dim]
};

}  // namespace longtake
