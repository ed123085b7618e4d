// Rows of numbers as 8-bit floats (e4m3) with one scale each, alone or behind bias and GELU.
//
// Memory-bound: every value is read once and written once as a byte. One block takes a row, which it keeps in registers
// between the search for its largest value and the rounding.
#pragma once

#include "base/cuda/kernel.h"

namespace longtake::cuda {

constexpr int64_t kQuantiseStep = 8, kQuantiseMax = 512 * 5 * kQuantiseStep;
constexpr bool quantise_fits(int64_t width) { return width > 0 && width % kQuantiseStep == 0 && width <= kQuantiseMax; }

// The largest magnitude that e4m3 holds, and the largest value of a row below which the row counts as zero.
constexpr float kE4m3Max = 448.0f, kSmallestRow = 1e-30f;

struct QuantiseRows {
  int64_t rows = 0, width = 0;  // quantise_fits(width)
  Float type = Float::bf16;     // of x and bias
  const void* x = nullptr;      // [rows, width], 16-byte aligned
  bool gelu = false;            // gelu(x + bias) in its tanh form instead of x
  const void* bias = nullptr;   // [width], or none; only with gelu
  uint8_t* values = nullptr;    // [rows, width] e4m3: x * (448 / largest), to the nearest
  float* scales = nullptr;      // [rows]: largest / 448
};

int quantise_rows(const QuantiseRows& p, Stream stream);

}  // namespace longtake::cuda
