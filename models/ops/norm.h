// Normalisation and modulation shared by the transformers, in plain ATen: the reference for later fused kernels.
#pragma once

#include <ATen/core/Tensor.h>

namespace longtake {

// LayerNorm over the last dimension in float32, without or with an affine part; returns float32.
at::Tensor layer_norm(const at::Tensor& x, double eps);
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps);

// x / sqrt(mean(x^2) + eps) * weight over the last dimension, in float32; returns float32.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// Modulation vectors by latent frame, applied to tokens packed frame after frame.
// Per-frame vectors stay [frames, D] (never [tokens, D]) wherever all frames have the same number of tokens.
class FrameModulation {
 public:
  // vectors [frames, k, D] float32. tokens_per_frame.size() == frames: how many packed tokens belong to each frame.
  FrameModulation(at::Tensor vectors, std::vector<int64_t> tokens_per_frame);

  // normed [tokens, D] float32 -> normed * (1 + scale) + shift, with scale and shift the given rows of the k vectors.
  at::Tensor modulate(const at::Tensor& normed, int64_t shift_row, int64_t scale_row) const;

  // x [tokens, D] -> x * gate in float32.
  at::Tensor gate(const at::Tensor& x, int64_t gate_row) const;

  // x [tokens, D] float32 -> x + y * gate.
  at::Tensor add_gated(const at::Tensor& x, const at::Tensor& y, int64_t gate_row) const;

  // The same frames with `table` [1, k, D] added to their vectors (a block's own modulation parameters).
  FrameModulation plus(const at::Tensor& table) const;

 private:
  at::Tensor rows(int64_t row) const;  // [frames, 1, D] where uniform, else [tokens, D]
  at::Tensor by_frame(const at::Tensor& x) const;

  at::Tensor vectors_;
  int64_t uniform_ = 0;          // tokens of every frame, 0 where they differ
  at::Tensor frame_of_token_;    // [tokens] int64, only where they differ
};

}  // namespace longtake
