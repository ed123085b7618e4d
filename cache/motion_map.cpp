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

void MotionMap::load(const State& state, const at::Device& device) {
  last_frame_.clear();
  const auto last = state.integers("policy/last_frames");
  if (last.size() % 2 != 0) state.refuse("'policy/last_frames' should hold pairs");
  for (size_t i = 0; i < last.size(); i += 2)
    last_frame_[{static_cast<int>(last[i]), static_cast<int>(last[i + 1])}] =
        state.get(fmt::format("policy/last_frame/{}/{}", last[i], last[i + 1]), 2).to(device);
}

}  // namespace longtake
