// LayerNorm over rows with a scale and a shift for each row, optionally after a gated addition into the residual
// stream.
//
// Memory-bound: a row is read once and written once. One warp a row, the row in registers, mean and variance in two
// passes over registers (no cancellation).
#pragma once

#include "base/cuda/kernel.h"

namespace longtake::cuda {

struct ResidualNorm {
  int64_t rows = 0, width = 0;  // width: row_fits
  float eps = 0;

  Float type = Float::bf16;   // of y and out; of x too where `narrow_input`
  bool narrow_input = false;  // x has `type` and out is float32, there is no y: the head's norm. Otherwise x is float32

  void* x = nullptr;            // [rows, width]; with y the residual stream, updated in place
  const void* y = nullptr;      // [rows, width] to be added, or null
  const float* gate = nullptr;  // y is multiplied by it, or null

  // out = LN(x) * (scale + one) + shift; without scale, out = x rounded.
  const float* scale = nullptr;
  const float* shift = nullptr;
  float one = 1;
  void* out = nullptr;  // [rows, width]; null: only x is updated
  // With it `out` is e4m3: the norm times (448 / its row's largest magnitude), and this is [rows] largest / 448 (fp8.h). Needs y and scale.
  float* scales = nullptr;

  // Row r takes gate, scale and shift [width] at index[r] * stride; all the first where index is null.
  const int32_t* index = nullptr;
  int64_t gate_stride = 0, norm_stride = 0;
};

int residual_norm(const ResidualNorm& p, Stream stream);

}  // namespace longtake::cuda
