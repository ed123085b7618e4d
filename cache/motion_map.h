// How much each token moves: the relative change of its last hidden state from one latent frame to the next (spec motioncache.md 1.5).
#pragma once

#include <ATen/core/Tensor.h>

#include <map>

#include "cache/policy.h"
#include "cache/state.h"

namespace longtake {

class MotionMap {
 public:
  // hidden [frames, plane, dim] of a chunk in a branch -> [frames, plane] float32: mean|H_f - H_{f-1}| / mean|H_{f-1}| over dim. The
  // first frame is compared with the last one of the chunk before it, as that was seen last; the first chunk's first frame takes
  // over the second one's, and where there is nothing to compare with all tokens move by 1.
  at::Tensor measure(const StepContext& context, int branch, const at::Tensor& hidden);

  // A chunk that is only compared with: its last frame is remembered.
  void remember(const StepContext& context, int branch, const at::Tensor& hidden);
  void forget() { last_frame_.clear(); }

  // "policy/last_frame/CHUNK/BRANCH" and the list of them.
  void save(State& state) const;
  void load(const State& state, const at::Device& device);

 private:
  std::map<std::pair<int, int>, at::Tensor> last_frame_;  // (chunk, branch) -> [plane, dim]
};

}  // namespace longtake
