#include "quant/cuda/quantise_rows.cuh"

#include "base/cuda/e4m3.cuh"

namespace longtake::cuda {
namespace {

static_assert(kStep == kQuantiseStep);

// ----------------------------------------------------------------------------------------------------------------------
// CUDA kernels

// x / (1 + exp(-2u)) is x/2 (1 + tanh u) without a tanh. Where the exponential overflows, the quotient is rightly zero.
__device__ inline float gelu_tanh(float x) {
  const float u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
  return __fdividef(x, 1.0f + __expf(-2.0f * u));
}

__device__ inline float block_max(float x) {
  __shared__ float of_warp[32];
  x = warp_max(x);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = x;
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x / 32);
  float largest = of_warp[0];
  for (int i = 1; i < warps; ++i) largest = fmaxf(largest, of_warp[i]);
  return largest;
}

template <int kSteps, class T, bool kGelu>
__global__ void __launch_bounds__(512) quantise_rows_kernel(const QuantiseRows p) {
  const int64_t row = blockIdx.x;
  const int width = static_cast<int>(p.width);
  const T* const in = static_cast<const T*>(p.x) + row * p.width;
  Eight<T> raw[kSteps];
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const int column = (j * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * kStep;
    if (column < width)
      raw[j].load(in + column);
    else
      raw[j].zero();
  }
  float v[kSteps][kStep], largest = 0;
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    raw[j].expand(v[j]);
    if constexpr (kGelu) {
      const int column = (j * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * kStep;
      float bias[kStep] = {};
      if (p.bias != nullptr && column < width) load_constant_eight(static_cast<const T*>(p.bias) + column, bias);
#pragma unroll
      for (int i = 0; i < kStep; ++i) v[j][i] = gelu_tanh(v[j][i] + bias[i]);
    }
#pragma unroll
    for (int i = 0; i < kStep; ++i) largest = fmaxf(largest, fabsf(v[j][i]));
  }
  largest = fmaxf(block_max(largest), kSmallestRow);
  const float factor = kE4m3Max / largest;
  if (threadIdx.x == 0) p.scales[row] = largest / kE4m3Max;
  uint8_t* const out = p.values + row * p.width;
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const int column = (j * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * kStep;
    if (column >= width) continue;
#pragma unroll
    for (int i = 0; i < kStep; ++i) v[j][i] *= factor;
    store_e4m3_eight(out + column, v[j]);
  }
}

// ----------------------------------------------------------------------------------------------------------------------
// kernel launchers

template <int kSteps, class T>
int launch(const QuantiseRows& p, unsigned threads, Stream stream) {
  const dim3 grid(static_cast<unsigned>(p.rows)), block(threads);
  if (p.gelu)
    quantise_rows_kernel<kSteps, T, true><<<grid, block, 0, stream>>>(p);
  else
    quantise_rows_kernel<kSteps, T, false><<<grid, block, 0, stream>>>(p);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace

int quantise_rows(const QuantiseRows& p, Stream stream) {
  if (p.rows == 0) return 0;
  if (!quantise_fits(p.width) || p.rows > 0x7fffffff) return cudaErrorInvalidValue;
  return with_float(p.type, [&](auto value) {
    return with_block_steps(p.width, [&](auto steps, unsigned threads) { return launch<decltype(steps)::value, decltype(value)>(p, threads, stream); });
  });
}

}  // namespace longtake::cuda
