// LayerNorm of rows with one gain and bias for all, alone or with a gate before it and a residual stream behind it.
//
// Memory-bound: every value is read once and written once. One block takes a row, which it keeps in registers; mean and variance in
// two passes over them (no cancellation), summed in the same order whatever else the grid does.
#pragma once

#include "base/cuda/kernel.h"

namespace longtake::cuda {

constexpr int64_t kNormStep = 8, kNormMax = 512 * 5 * kNormStep;
constexpr bool norm_fits(int64_t width) { return width > 0 && width % kNormStep == 0 && width <= kNormMax; }

// Runs of rows with a gate each.
constexpr int kGateRuns = 64;

struct GatedNorm {
  int64_t rows = 0, width = 0;  // norm_fits(width)
  float eps = 0;
  Float type = Float::bf16;  // of x and out, and of y but where `wide`
  bool wide = false;         // y is float32

  // Everything 16-byte aligned. out = LN(y * gate) * gain + bias + x, products and the last sum rounded to float32 each.
  const void* y = nullptr;        // [rows, width]
  const void* x = nullptr;        // [rows, width], or null for none
  const float* gain = nullptr;    // [width]
  const float* bias = nullptr;    // [width]
  const float* gates = nullptr;   // [runs, width], or null for none: rows below ends[0] take the first, those up to ends[1] the second ...
  int64_t gate_stride = 0;        // a multiple of 4
  int runs = 0;                   // 1 to kGateRuns where there are gates
  int64_t ends[kGateRuns] = {};   // ascending, the last one `rows`
  void* out = nullptr;            // [rows, width]
};

int gated_norm(const GatedNorm& p, Stream stream);

}  // namespace longtake::cuda
