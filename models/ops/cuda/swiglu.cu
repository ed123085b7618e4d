#include "models/ops/cuda/swiglu.cuh"

#include "base/cuda/rows.cuh"

namespace longtake::cuda {
namespace {

constexpr int kThreads = 256;

// ----------------------------------------------------------------------------------------------------------------------
// CUDA kernel

// (Exponential and quotient as ATen's silu has them.)
template <class T>
__global__ void __launch_bounds__(kThreads) swiglu_kernel(const Swiglu p) {
  const int64_t row = blockIdx.x;
  const int width = static_cast<int>(p.width);
  const T* const x = static_cast<const T*>(p.x) + row * 2 * p.width;
  T* const out = static_cast<T*>(p.out) + row * p.width;
  for (int column = static_cast<int>(threadIdx.x) * kStep; column < width; column += kThreads * kStep) {
    Eight<T> raw_a, raw_b;
    raw_a.load(x + column);
    raw_b.load(x + width + column);
    float a[kStep], b[kStep];
    raw_a.expand(a);
    raw_b.expand(b);
#pragma unroll
    for (int i = 0; i < kStep; ++i) a[i] = a[i] / (1.0f + expf(-a[i])) * b[i];
    store_eight(out + column, a);
  }
}

}  // namespace

// ----------------------------------------------------------------------------------------------------------------------
// kernel launcher

int swiglu(const Swiglu& p, Stream stream) {
  if (p.rows == 0) return 0;
  if (p.width <= 0 || p.width % kStep != 0 || p.width > (1 << 30) || p.rows > 0x7fffffff) return cudaErrorInvalidValue;
  return with_float(p.type, [&](auto value) {
    swiglu_kernel<decltype(value)><<<dim3(static_cast<unsigned>(p.rows)), dim3(kThreads), 0, stream>>>(p);
    return static_cast<int>(cudaGetLastError());
  });
}

}  // namespace longtake::cuda
