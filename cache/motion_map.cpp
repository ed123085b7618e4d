#include "cache/motion_map.h"

#include <ATen/TensorOperators.h>

#include "cache/row_ops.h"

namespace longtake {

at::Tensor MotionMap::measure(const StepContext& context, int branch, const at::Tensor& hidden) {
  const auto known = last_frame_.find({context.chunk - 1, branch});
  const at::Tensor before = context.chunk > 0 && known != last_frame_.end() ? known->second : at::Tensor();
  const at::Tensor motion = motion_rows(hidden, before, context.chunk == 0, measure_);
  remember(context, branch, hidden);
  return motion;
}

void MotionMap::remember(const StepContext& context, int branch, const at::Tensor& hidden) {
  last_frame_[{context.chunk, branch}] = hidden[-1].clone();
}

void MotionMap::save(State& state) const {
  std::vector<int64_t> last;
  for (const auto& [key, frame] : last_frame_) {
    last.insert(last.end(), {key.first, key.second});
    state.put(fmt::format("policy/last_frame/{}/{}", key.first, key.second), frame);
  }
  state.put_integers("policy/last_frames", last);
}

void MotionMap::load(const State& state, const StateLayout& layout) {
  last_frame_.clear();
  for (const auto& [chunk, branch] : layout.chunk_branches(state, "policy/last_frames"))
    last_frame_[{chunk, branch}] = layout.get(state, fmt::format("policy/last_frame/{}/{}", chunk, branch),
                                              {layout.plane, layout.observed.width}, layout.observed.dtype);
}

}  // namespace longtake
