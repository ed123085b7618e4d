// A linear layer, y = x W^T + b. The one place where models multiply by weights, so that other precisions can come in
// here.
#pragma once

#include <ATen/core/Tensor.h>

namespace longtake {

struct Fp8Rows;

struct Linear {
  at::Tensor weight;   // [out, in]
  at::Tensor bias;     // [out], undefined where the layer has none
  at::Tensor scale{};  // [out] float32 where the weight is e4m3 (fp8.h); undefined otherwise
  // [in] float32: in fp8, x is multiplied by it before it is rounded (calibrated checkpoints even out channels so, and their
  // weights hold the inverse); undefined for 1.
  at::Tensor input_factors{};

  bool in_fp8() const { return scale.defined(); }
  // Whether rows that are rounded already may be given.
  bool takes_rounded() const { return in_fp8() && !input_factors.defined(); }
  // From now on in e4m3, with rows of x rounded to e4m3 and results in bfloat16; the old weight is let go. False, and
  // nothing changes, where the weight's sizes do not fit (fits_fp8) or it is not finite. The bias must be bfloat16.
  bool to_fp8();

  // x [..., in] of any floating dtype; it is brought to the weight's dtype, and so is the result (fp8: bfloat16). [...,
  // out]
  at::Tensor operator()(const at::Tensor& x) const;

  // The same in float32 whatever the weight's dtype; for the small time-embedding layers, the head, and MAGI-1's output projection. Not in fp8.
  at::Tensor in_float32(const at::Tensor& x) const;

  // out = x W^T + b, or gelu of it (tanh form), without a temporary: on CUDA bias and gelu run in the product's
  // epilogue. x [rows, in] and out [rows, out] of the weight's dtype (fp8: bfloat16), out dense. Not for autograd.
  void into(at::Tensor& out, const at::Tensor& x) const;
  void gelu_into(at::Tensor& out, const at::Tensor& x) const;
  // Of rows that are rounded already; only where takes_rounded().
  void into(at::Tensor& out, const Fp8Rows& x) const;
};

// out = second(gelu(first(x))) with gelu in its tanh form: the feed-forward part of a transformer block. In fp8 bias,
// gelu and rounding are one pass. hidden [rows, first's out] is room for what lies between; dtypes and shapes as
// Linear::into.
void feed_forward_into(at::Tensor& out, at::Tensor& hidden, const at::Tensor& x, const Linear& first,
                       const Linear& second);

// The same of rows that are rounded already; first.takes_rounded().
void feed_forward_into(at::Tensor& out, at::Tensor& hidden, const Fp8Rows& x, const Linear& first, const Linear& second);

// The same as a value. x [rows, in]; differentiable unless in fp8.
at::Tensor feed_forward(const at::Tensor& x, const Linear& first, const Linear& second);

}  // namespace longtake
