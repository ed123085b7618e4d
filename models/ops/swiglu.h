// The activation of a gated MLP.
#pragma once

#include <ATen/core/Tensor.h>

namespace longtake {

// silu(first half of a row) * second half in float32, rounded once to x's dtype. x [rows, 2 * width] float32, float16 or bfloat16 ->
// [rows, width]; any other is an Error (internal). On CUDA one pass over memory (models/ops/cuda/swiglu.cu); elsewhere, for widths that are
// no multiple of 8, and where gradients are recorded, plain ATen.
at::Tensor swiglu(const at::Tensor& x);

// The same in plain ATen on any device: what tests compare with.
namespace reference {
at::Tensor swiglu(const at::Tensor& x);
}  // namespace reference

}  // namespace longtake
