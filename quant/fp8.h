// Matrix products in 8-bit floats (e4m3: 4 bits of exponent, 3 of mantissa, largest value 448, no infinity).
//
// Both factors are rounded row by row with one scale each (a token's activations, an output channel's weights), so that
// no calibration is needed; sums are float32 and the result is bfloat16. On CUDA our kernel rounds and ATen's row-wise
// scaled product multiplies (compute capability 8.9 or newer); on the CPU the same numbers are multiplied in float32,
// slowly: a reference for tests.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace longtake {

struct Fp8Rows {
  at::Tensor values;  // [rows, width] e4m3
  at::Tensor scales;  // [rows] float32, positive: row i is values[i] * scales[i]
};

// Rows of numbers, each by its largest magnitude. x [rows, width] dense, float32, float16 or bfloat16. A row whose
// largest magnitude is below 1e-30 counts as zero. Values that are not finite give values that are not finite.
Fp8Rows quantise_rows(const at::Tensor& x);

// The same of gelu(x + bias) in its tanh form, computed in float32. bias [width] of x's dtype, or undefined.
Fp8Rows gelu_quantise_rows(const at::Tensor& x, const at::Tensor& bias);

// Whether a weight [out, in] can be one: the device's products take multiples of 16 on both sides.
bool fits_fp8(const at::Tensor& weight);

// out = x W^T + bias. x [rows, in], weight [out, in]; bias [out] bfloat16 or undefined; out [rows, out] bfloat16,
// dense.
void fp8_product(at::Tensor& out, const Fp8Rows& x, const Fp8Rows& weight, const at::Tensor& bias);

namespace reference {

// The same in plain ATen on any device; GELU as ATen computes it.
Fp8Rows quantise_rows(const at::Tensor& x);
Fp8Rows gelu_quantise_rows(const at::Tensor& x, const at::Tensor& bias);
void fp8_product(at::Tensor& out, const Fp8Rows& x, const Fp8Rows& weight, const at::Tensor& bias);

}  // namespace reference

}  // namespace longtake
