#include "cache/motion_map.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/ones.h>

namespace longtake {
// How far a token changed between two frames, over the hidden dimension.
at::Tensor MotionMap::change(const at::Tensor& from, const at::Tensor& to) const {
  const at::Tensor moved = at::mean(at::abs(to - from), -1);
  return measure_ == MotionMeasure::absolute ? moved : moved / (at::mean(at::abs(from), -1) + 1e-8);
}

at::Tensor MotionMap::measure(const StepContext& context, int branch, const at::Tensor& hidden_in) {
  const at::Tensor hidden = hidden_in.to(at::kFloat);
  const int64_t frames = context.frames;
  at::Tensor first;
  const auto before = last_frame_.find({context.chunk - 1, branch});
  const at::Tensor later =
      frames > 1 ? change(hidden.narrow(0, 0, frames - 1), hidden.narrow(0, 1, frames - 1)) : at::Tensor();
  if (context.chunk == 0 && later.defined())
    first = later[0];
  else if (context.chunk > 0 && before != last_frame_.end())
    first = change(before->second.to(at::kFloat), hidden[0]);
  else
    first = at::ones({context.plane}, hidden.options());
  remember(context, branch, hidden_in);
  const at::Tensor motion = first.unsqueeze(0);
  return later.defined() ? at::cat({motion, later}) : motion;
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
