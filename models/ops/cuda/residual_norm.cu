#include "models/ops/cuda/residual_norm.cuh"

#include "base/cuda/e4m3.cuh"
#include "base/cuda/rows.cuh"
#include "quant/cuda/quantise_rows.cuh"

namespace longtake::cuda {
namespace {

// ----------------------------------------------------------------------------------------------------------------------
// CUDA kernel

// Out: float, a 2-byte type, or uint8_t for e4m3 with a scale for the row.
template <int kSteps, class X, class Y, class Out>
__global__ void __launch_bounds__(32 * kWarpsPerBlock) residual_norm_kernel(const ResidualNorm p) {
  const int lane = threadIdx.x % 32, width = static_cast<int>(p.width);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  if (row >= p.rows) return;
  const int64_t vector = p.index ? p.index[row] : 0;
  X* const x = static_cast<X*>(p.x) + row * width;

  float v[kSteps][kStep];
  {
    Eight<X> raw_x[kSteps];
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      const int column = (32 * j + lane) * kStep;
      if (column < width)
        raw_x[j].load(x + column);
      else
        raw_x[j].zero();
    }
    if (p.y) {
      // All of y is asked for before the first addition, but not where the registers would not hold it.
      constexpr bool kAhead = kSteps <= 6;
      const Y* const y = static_cast<const Y*>(p.y) + row * width;
      const float* const gate = p.gate ? p.gate + vector * p.gate_stride : nullptr;
      Eight<Y> raw_y[kAhead ? kSteps : 1];
      if constexpr (kAhead) {
#pragma unroll
        for (int j = 0; j < kSteps; ++j) {
          const int column = (32 * j + lane) * kStep;
          if (column < width)
            raw_y[j].load_constant(y + column);
          else
            raw_y[j].zero();
        }
      }
#pragma unroll
      for (int j = 0; j < kSteps; ++j) {
        const int column = (32 * j + lane) * kStep;
        raw_x[j].expand(v[j]);
        if (column >= width) continue;
        float add[kStep];
        if constexpr (kAhead)
          raw_y[j].expand(add);
        else
          load_constant_eight(y + column, add);
        if (gate) {
          float g[kStep];
          load_constant_eight(gate + column, g);
#pragma unroll
          for (int i = 0; i < kStep; ++i) v[j][i] = fmaf(add[i], g[i], v[j][i]);
        } else {
#pragma unroll
          for (int i = 0; i < kStep; ++i) v[j][i] += add[i];
        }
        store_eight(x + column, v[j]);
      }
    } else {
#pragma unroll
      for (int j = 0; j < kSteps; ++j) raw_x[j].expand(v[j]);
    }
  }
  if (!p.out) return;

  Out* const out = static_cast<Out*>(p.out) + row * width;
  constexpr bool kRounds = std::is_same_v<Out, uint8_t>;
  if constexpr (!kRounds) {
    if (!p.scale) {
#pragma unroll
      for (int j = 0; j < kSteps; ++j) {
        const int column = (32 * j + lane) * kStep;
        if (column < width) store_eight(out + column, v[j]);
      }
      return;
    }
  }

  float sum = 0;
#pragma unroll
  for (int j = 0; j < kSteps; ++j)
#pragma unroll
    for (int i = 0; i < kStep; ++i) sum += v[j][i];  // values beyond the width are 0
  const float mean = warp_sum(sum) / static_cast<float>(width);
  float squares = 0;
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    if ((32 * j + lane) * kStep >= width) continue;
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      v[j][i] -= mean;
      squares = fmaf(v[j][i], v[j][i], squares);
    }
  }
  const float factor = rsqrtf(warp_sum(squares) / static_cast<float>(width) + p.eps);

  const float* const scale = p.scale + vector * p.norm_stride;
  const float* const shift = p.shift + vector * p.norm_stride;
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const int column = (32 * j + lane) * kStep;
    if (column >= width) continue;
    float a[kStep], b[kStep];
    load_constant_eight(scale + column, a);
    load_constant_eight(shift + column, b);
#pragma unroll
    for (int i = 0; i < kStep; ++i) v[j][i] = fmaf(v[j][i] * factor, a[i] + p.one, b[i]);
    if constexpr (!kRounds) store_eight(out + column, v[j]);
  }
  if constexpr (kRounds) {
    float largest = 0;
#pragma unroll
    for (int j = 0; j < kSteps; ++j)
#pragma unroll
      for (int i = 0; i < kStep; ++i)
        if ((32 * j + lane) * kStep < width) largest = fmaxf(largest, fabsf(v[j][i]));
    largest = fmaxf(warp_max(largest), kSmallestRow);
    const float to_e4m3 = kE4m3Max / largest;
    if (lane == 0) p.scales[row] = largest / kE4m3Max;
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      const int column = (32 * j + lane) * kStep;
      if (column >= width) continue;
#pragma unroll
      for (int i = 0; i < kStep; ++i) v[j][i] *= to_e4m3;
      store_e4m3_eight(out + column, v[j]);
    }
  }
}

}  // namespace

// ----------------------------------------------------------------------------------------------------------------------
// kernel launcher

int residual_norm(const ResidualNorm& p, Stream stream) {
  if (p.rows == 0) return 0;
  const int64_t blocks = (p.rows + kWarpsPerBlock - 1) / kWarpsPerBlock;
  return with_steps(p.width, [&](auto steps) {
    return with_float(p.type, [&](auto value) {
      using T = decltype(value);
      constexpr int kSteps = decltype(steps)::value;
      const dim3 grid(static_cast<unsigned>(blocks)), block(32 * kWarpsPerBlock);
      if (p.scales && (p.narrow_input || !p.y || !p.scale)) return static_cast<int>(cudaErrorInvalidValue);
      if (p.scales)
        residual_norm_kernel<kSteps, float, T, uint8_t><<<grid, block, 0, stream>>>(p);
      else if (p.narrow_input)
        residual_norm_kernel<kSteps, T, T, float><<<grid, block, 0, stream>>>(p);
      else
        residual_norm_kernel<kSteps, float, T, T><<<grid, block, 0, stream>>>(p);
      return static_cast<int>(cudaGetLastError());
    });
  });
}

}  // namespace longtake::cuda
