// What stands between MAGI-1's products for queries and keys and its attention: LayerNorm of each head, and rotary positions. Spec:
// magi1.md 2.3 and 2.6.
//
// In float32 whatever the dtype, rounded once at the end: on CUDA in one pass over memory (models/ops/cuda/head_norm.cu); elsewhere, for
// widths that the kernel was not built for, and where gradients are recorded, in plain ATen. The kernel rounds where ATen does; it may
// sum mean and variance in another order.
#pragma once

#include <ATen/core/Tensor.h>

namespace longtake {

// LN(x) * gain + bias over each head, then turned by apply_rope_halves (attention/rope.h) where `rotations` are given. x [rows, heads,
// width] float32, float16 or bfloat16, rows and heads may lie apart; gain, bias [width] float32; rotations [rows, 2 * half] float32, a
// row's sines and then its cosines, 2 * half <= width; all on one device. Returns dense [rows, heads, width] in x's dtype.
// Other shapes and dtypes: Error (internal).
at::Tensor norm_heads(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias, double eps, const at::Tensor& rotations = {});

// The same in plain ATen on any device: what tests compare with.
namespace reference {
at::Tensor norm_heads(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias, double eps, const at::Tensor& rotations = {});
}  // namespace reference

}  // namespace longtake
