// What MAGI-1's layers do to whole rows between their products: LayerNorm with gain and bias, and its norm behind a product: of the product
// times a gate, added to the residual stream. Spec: magi1.md 2.6.
//
// In float32 whatever the dtypes, rounded once at the end: on CUDA in one pass over memory (models/ops/cuda/gated_norm.cu); elsewhere, for
// widths that the kernel was not built for, and where gradients are recorded, in plain ATen. The kernel rounds where ATen does; it may
// sum mean and variance in another order.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace longtake {

// LN(x) * gain + bias in x's dtype. x [rows, D] float32, float16 or bfloat16; gain, bias [D] float32; all on one device.
// Other shapes and dtypes: Error (internal).
at::Tensor norm_rows(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias, double eps);

// x + LN(y * gate) * gain + bias in x's dtype. y [rows, D] in x's dtype or float32; gates [n, D] float32, whose rows may lie apart: the
// first `rows[0]` rows take the first of them, the next `rows[1]` the second, and so on to the last row.
at::Tensor add_gated_norm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gates, const std::vector<int64_t>& rows,
                          const at::Tensor& gain, const at::Tensor& bias, double eps);

// The same in plain ATen on any device: what tests compare with.
namespace reference {
at::Tensor norm_rows(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias, double eps);
at::Tensor add_gated_norm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gates, const std::vector<int64_t>& rows,
                          const at::Tensor& gain, const at::Tensor& bias, double eps);
}  // namespace reference

}  // namespace longtake
