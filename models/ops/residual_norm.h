// LayerNorm of packed rows with a scale and a shift that each row looks up (modulation by latent frame, or one affine
// pair for all), alone or fused with the gated addition into the residual stream before it.
//
// Vectors stay [n, D], n distinct ones: a row takes the one at its index, never a copy a token. On CUDA these run
// models/ops/cuda/residual_norm.cu, elsewhere and for widths that it was not built for plain ATen. They write in place
// and are not for autograd.
#pragma once

#include <ATen/core/Tensor.h>

namespace longtake {

struct Fp8Rows;

// One vector for each packed row: rows of `table` [n, D] float32, which may be a slice with strided rows.
// index [rows] int32 on the same device; undefined where all rows take the first. Its values are not checked.
struct RowVectors {
  at::Tensor table, index;
};

// LN(x) * (scale + 1) + shift where `modulates`, else LN(x) * scale + shift. Both tables share n, D and row stride.
struct RowNorm {
  RowVectors scale, shift;
  bool modulates = true;
  double eps = 1e-6;

  // Rows `scale` and `shift` of vectors [n, k, D].
  static RowNorm modulation(const at::Tensor& vectors, const at::Tensor& index, int64_t shift, int64_t scale,
                            double eps);
  // weight and bias [D] float32.
  static RowNorm affine(const at::Tensor& weight, const at::Tensor& bias, double eps);
};

// out = norm of x. x [rows, D] float32 with out of any dtype, or x of any dtype with out float32.
void normalize_rows(at::Tensor& out, const at::Tensor& x, const RowNorm& norm);

// z += y * gate; out = norm of z. z [rows, D] float32; y and out [rows, D] of one dtype; gate.table undefined for none.
void add_and_normalize(at::Tensor& out, at::Tensor& z, const at::Tensor& y, const RowVectors& gate,
                       const RowNorm& norm);

// The same with the norm rounded to e4m3 on the way, for a product in fp8: out.values [rows, D] and out.scales [rows] are written, as
// quantise_rows (quant/fp8.h) would write them of the norm in float32.
void add_and_normalize(Fp8Rows& out, at::Tensor& z, const at::Tensor& y, const RowVectors& gate, const RowNorm& norm);

// out = z + y * gate, rounded to y's dtype; z becomes the sum too.
void add_rows(at::Tensor& out, at::Tensor& z, const at::Tensor& y, const RowVectors& gate);

// The same in plain ATen on any device: what tests compare with.
namespace reference {
void normalize_rows(at::Tensor& out, const at::Tensor& x, const RowNorm& norm);
void add_and_normalize(at::Tensor& out, at::Tensor& z, const at::Tensor& y, const RowVectors& gate,
                       const RowNorm& norm);
void add_and_normalize(Fp8Rows& out, at::Tensor& z, const at::Tensor& y, const RowVectors& gate, const RowNorm& norm);
void add_rows(at::Tensor& out, at::Tensor& z, const at::Tensor& y, const RowVectors& gate);
}  // namespace reference

}  // namespace longtake
