// The activation of a gated MLP: silu of the first half of a row times the second. Memory-bound: one pass.
#pragma once

#include "base/cuda/kernel.h"

namespace longtake::cuda {

struct Swiglu {
  int64_t rows = 0, width = 0;  // width of the result, a multiple of 8
  Float type = Float::bf16;
  const void* x = nullptr;  // [rows, 2 * width], 16-byte aligned
  void* out = nullptr;      // [rows, width], 16-byte aligned
};

int swiglu(const Swiglu& p, Stream stream);

}  // namespace longtake::cuda
