#include "cache/cuda/motion_rows.cuh"

#include "base/cuda/rows.cuh"

namespace longtake::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(32 * kWarpsPerBlock) motion_rows_kernel(const MotionRows p) {
  const int lane = threadIdx.x % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  if (row >= p.frames * p.plane) return;
  const T* const hidden = static_cast<const T*>(p.hidden);
  const T *from = nullptr, *to = nullptr;
  if (row >= p.plane) {
    from = hidden + (row - p.plane) * p.width;
    to = hidden + row * p.width;
  } else if (p.before) {
    from = static_cast<const T*>(p.before) + row * p.width;
    to = hidden + row * p.width;
  } else if (p.repeats_second) {
    from = hidden + row * p.width;
    to = hidden + (row + p.plane) * p.width;
  } else {
    if (lane == 0) p.out[row] = 1;
    return;
  }
  float change = 0, size = 0;
  for (int64_t column = lane * kStep; column < p.width; column += 32 * kStep) {
    float a[kStep], b[kStep];
    load_constant_eight(from + column, a);
    load_constant_eight(to + column, b);
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      change += fabsf(b[i] - a[i]);
      size += fabsf(a[i]);
    }
  }
  change = warp_sum(change);
  size = warp_sum(size);
  const float width = static_cast<float>(p.width);
  if (lane == 0) p.out[row] = (change / width) / (size / width + 1e-8f);
}

}  // namespace

int motion_rows(const MotionRows& p, Stream stream) {
  const int64_t rows = p.frames * p.plane;
  if (rows == 0) return 0;
  if (p.width <= 0 || p.width % kStep != 0) return cudaErrorInvalidValue;
  return with_float(p.type, [&](auto value) {
    const int64_t blocks = (rows + kWarpsPerBlock - 1) / kWarpsPerBlock;
    motion_rows_kernel<decltype(value)><<<dim3(static_cast<unsigned>(blocks)), dim3(32 * kWarpsPerBlock), 0, stream>>>(p);
    return static_cast<int>(cudaGetLastError());
  });
}

}  // namespace longtake::cuda
