// LayerNorm of each head of a row with one gain and bias for all heads, and rotary positions over the two halves of its first channels.
//
// Memory-bound: every value is read once and written once. Eight neighbouring channels are one lane's, so a head is a group of lanes, and
// a warp takes several heads of one row: what they share (rotation, gain and bias) is loaded once for them. The sums of a head and the
// exchange between its halves are shuffles.
#pragma once

#include "base/cuda/kernel.h"

namespace longtake::cuda {

constexpr int64_t kHeadStep = 8, kHeadMax = 32 * kHeadStep;
constexpr bool head_fits(int64_t width) { return width > 0 && width % kHeadStep == 0 && width <= kHeadMax; }

struct HeadNorm {
  int64_t rows = 0, heads = 0, width = 0;  // head_fits(width)
  float eps = 0;
  Float type = Float::bf16;  // of x and out

  // Everything 16-byte aligned, strides in elements too.
  const void* x = nullptr;  // [rows, heads, width] with dense channels
  int64_t row_stride = 0, head_stride = 0;
  const float* gain = nullptr;  // [width]
  const float* bias = nullptr;  // [width]
  void* out = nullptr;          // [rows, heads, width], dense

  // [rows, 2 * half] dense, a row's sines and then its cosines; or null for no rotation. half: a multiple of 8, 2 * half <= width.
  // Channels c and c + half turn together for c < half: a cos - b sin and b cos + a sin, each product rounded to float32.
  const float* rotations = nullptr;
  int64_t half = 0;
};

int head_norm(const HeadNorm& p, Stream stream);

}  // namespace longtake::cuda
