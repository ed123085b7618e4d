// How much every token of a chunk changed from one frame to the next, in one pass over its hidden states.
#pragma once

#include "base/cuda/kernel.h"

namespace longtake::cuda {

struct MotionRows {
  int64_t frames = 0, plane = 0, width = 0;  // width: a multiple of kRowStep
  Float type = Float::bf16;
  const void* hidden = nullptr;  // [frames, plane, width]
  const void* before = nullptr;  // [plane, width], the frame before the first, or null
  bool repeats_second = false;   // without `before`: the first frame takes over the second one's values, else 1
  float* out = nullptr;          // [frames, plane]: mean|to - from| / (mean|from| + 1e-8)
};

int motion_rows(const MotionRows& p, Stream stream);

}  // namespace longtake::cuda
