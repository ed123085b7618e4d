#include "models/ops/norm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/tensor.h>

#include "base/error.h"

namespace longtake {

at::Tensor layer_norm(const at::Tensor& x, double eps) { return at::layer_norm(x.to(at::kFloat), {x.size(-1)}, {}, {}, eps); }

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  return at::layer_norm(x.to(at::kFloat), {x.size(-1)}, weight.to(at::kFloat), bias.to(at::kFloat), eps);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return at::rms_norm(x.to(at::kFloat), {x.size(-1)}, weight.to(at::kFloat), eps);
}

FrameModulation::FrameModulation(at::Tensor vectors, std::vector<int64_t> tokens_per_frame)
    : vectors_(std::move(vectors)) {
  LONGTAKE_CHECK(vectors_.dim() == 3 && vectors_.size(0) == static_cast<int64_t>(tokens_per_frame.size()),
                 "expected modulation vectors of {} frames, found {}", tokens_per_frame.size(), vectors_.size(0));
  const bool same = std::all_of(tokens_per_frame.begin(), tokens_per_frame.end(),
                                [&](int64_t n) { return n == tokens_per_frame.front(); });
  if (same) {
    uniform_ = tokens_per_frame.empty() ? 0 : tokens_per_frame.front();
    return;
  }
  std::vector<int64_t> frame_of_token;
  for (size_t f = 0; f < tokens_per_frame.size(); ++f) frame_of_token.insert(frame_of_token.end(), tokens_per_frame[f], f);
  frame_of_token_ = at::tensor(frame_of_token, at::TensorOptions().dtype(at::kLong)).to(vectors_.device());
}

at::Tensor FrameModulation::rows(int64_t row) const {
  const at::Tensor vectors = vectors_.select(1, row);
  return uniform_ ? vectors.unsqueeze(1) : vectors.index_select(0, frame_of_token_);
}

at::Tensor FrameModulation::by_frame(const at::Tensor& x) const {
  return uniform_ ? x.reshape({vectors_.size(0), uniform_, x.size(-1)}) : x;
}

at::Tensor FrameModulation::modulate(const at::Tensor& normed, int64_t shift_row, int64_t scale_row) const {
  return (by_frame(normed) * (rows(scale_row) + 1) + rows(shift_row)).reshape(normed.sizes());
}

at::Tensor FrameModulation::gate(const at::Tensor& x, int64_t gate_row) const {
  return (by_frame(x.to(at::kFloat)) * rows(gate_row)).reshape(x.sizes());
}

at::Tensor FrameModulation::add_gated(const at::Tensor& x, const at::Tensor& y, int64_t gate_row) const {
  return x + gate(y, gate_row);
}

FrameModulation FrameModulation::plus(const at::Tensor& table) const {
  FrameModulation sum = *this;
  sum.vectors_ = vectors_ + table.to(at::kFloat);
  return sum;
}

}  // namespace longtake
