#include "models/ops/cuda/gated_norm.cuh"

#include "base/cuda/rows.cuh"

namespace longtake::cuda {
namespace {

static_assert(kStep == kNormStep);

// ----------------------------------------------------------------------------------------------------------------------
// CUDA kernel

// `of_warp`: room for a sum of each warp, which nothing else has used before.
__device__ inline float block_sum(float x, float* of_warp) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = x;
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x / 32);
  float sum = of_warp[0];
  for (int i = 1; i < warps; ++i) sum += of_warp[i];
  return sum;
}

template <int kSteps, class Y, class T>
__global__ void __launch_bounds__(512) gated_norm_kernel(const GatedNorm p) {
  __shared__ float of_warp[2][16];
  const int64_t row = blockIdx.x;
  const int width = static_cast<int>(p.width);
  const auto column_of = [](int step) { return (step * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * kStep; };
  const Y* const y = static_cast<const Y*>(p.y) + row * p.width;
  const T* const x = p.x ? static_cast<const T*>(p.x) + row * p.width : nullptr;
  const float* gate = p.gates;
  if (gate)
    for (int run = 0; run + 1 < p.runs && row >= p.ends[run]; ++run) gate += p.gate_stride;

  Eight<Y> raw_y[kSteps];
  Eight<T> raw_x[kSteps];
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const int column = column_of(j);
    if (column < width)
      raw_y[j].load(y + column);
    else
      raw_y[j].zero();
    if (x && column < width)
      raw_x[j].load(x + column);
    else
      raw_x[j].zero();
  }
  float v[kSteps][kStep];
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const int column = column_of(j);
    raw_y[j].expand(v[j]);
    if (gate && column < width) {
      float g[kStep];
      load_constant_eight(gate + column, g);
#pragma unroll
      for (int i = 0; i < kStep; ++i) v[j][i] = __fmul_rn(v[j][i], g[i]);
    }
#pragma unroll
    for (int i = 0; i < kStep; ++i) sum += v[j][i];  // values beyond the width are 0
  }
  const float mean = block_sum(sum, of_warp[0]) / static_cast<float>(width);
  float squares = 0;
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    if (column_of(j) >= width) continue;
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      v[j][i] -= mean;
      squares = fmaf(v[j][i], v[j][i], squares);
    }
  }
  const float factor = rsqrtf(block_sum(squares, of_warp[1]) / static_cast<float>(width) + p.eps);

  T* const out = static_cast<T*>(p.out) + row * p.width;
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const int column = column_of(j);
    if (column >= width) continue;
    float gain[kStep], bias[kStep];
    load_constant_eight(p.gain + column, gain);
    load_constant_eight(p.bias + column, bias);
#pragma unroll
    for (int i = 0; i < kStep; ++i) v[j][i] = fmaf(v[j][i] * factor, gain[i], bias[i]);
    if (x) {
      float add[kStep];
      raw_x[j].expand(add);
#pragma unroll
      for (int i = 0; i < kStep; ++i) v[j][i] = __fadd_rn(v[j][i], add[i]);
    }
    store_eight(out + column, v[j]);
  }
}

// ----------------------------------------------------------------------------------------------------------------------
// kernel launcher

template <int kSteps, class T>
int launch(const GatedNorm& p, unsigned threads, Stream stream) {
  const dim3 grid(static_cast<unsigned>(p.rows)), block(threads);
  if (p.wide)
    gated_norm_kernel<kSteps, float, T><<<grid, block, 0, stream>>>(p);
  else
    gated_norm_kernel<kSteps, T, T><<<grid, block, 0, stream>>>(p);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace

int gated_norm(const GatedNorm& p, Stream stream) {
  if (p.rows == 0) return 0;
  if (!norm_fits(p.width) || p.rows > 0x7fffffff || (p.gates && (p.runs < 1 || p.runs > kGateRuns))) return cudaErrorInvalidValue;
  return with_float(p.type, [&](auto value) {
    return with_block_steps(p.width, [&](auto steps, unsigned threads) { return launch<decltype(steps)::value, decltype(value)>(p, threads, stream); });
  });
}

}  // namespace longtake::cuda
