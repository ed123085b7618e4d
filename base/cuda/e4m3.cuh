// Device code that rounds to e4m3, saturating at 448; NaN stays NaN.
#pragma once

#include <cuda_fp8.h>

#include "base/cuda/rows.cuh"

namespace longtake::cuda {

// a in the lower byte.
__device__ inline unsigned e4m3_pair(float a, float b) {
  return __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, __NV_E4M3);
}

// p aligned to 8 bytes.
__device__ inline void store_e4m3_eight(uint8_t* p, const float (&x)[kStep]) {
  uint2 bytes;
  bytes.x = e4m3_pair(x[0], x[1]) | e4m3_pair(x[2], x[3]) << 16;
  bytes.y = e4m3_pair(x[4], x[5]) | e4m3_pair(x[6], x[7]) << 16;
  *reinterpret_cast<uint2*>(p) = bytes;
}

}  // namespace longtake::cuda
