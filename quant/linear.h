// A linear layer, y = x W^T + b. The one place where models multiply by weights, so that other precisions can come in here.
#pragma once

#include <ATen/core/Tensor.h>

namespace longtake {

struct Linear {
  at::Tensor weight;  // [out, in]
  at::Tensor bias;    // [out], undefined where the layer has none

  // x [..., in] of any floating dtype; it is brought to the weight's dtype, and so is the result. [..., out]
  at::Tensor operator()(const at::Tensor& x) const;

  // The same in float32 whatever the weight's dtype; for the small time-embedding layers and the head.
  at::Tensor in_float32(const at::Tensor& x) const;

  // out = x W^T + b, or gelu of it (tanh form), without a temporary: on CUDA bias and gelu run in the product's epilogue.
  // x [rows, in] and out [rows, out] of the weight's dtype, out dense. Not for autograd.
  void into(at::Tensor& out, const at::Tensor& x) const;
  void gelu_into(at::Tensor& out, const at::Tensor& x) const;
};

}  // namespace longtake
