#include "attention/cuda/qkv_rows.cuh"

#include "base/cuda/e4m3.cuh"
#include "base/cuda/rows.cuh"

namespace longtake::cuda {
namespace {

// ----------------------------------------------------------------------------------------------------------------------
// CUDA kernels

// A row in one warp's registers, in float.
template <int kSteps, class T>
__device__ void load_row(const T* row, int width, int lane, float (&v)[kSteps][kStep]) {
  Eight<T> raw[kSteps];
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const int column = (32 * j + lane) * kStep;
    if (column < width)
      raw[j].load(row + column);
    else
      raw[j].zero();
  }
#pragma unroll
  for (int j = 0; j < kSteps; ++j) raw[j].expand(v[j]);
}

// v = v / sqrt(mean(v^2) + eps) * weight.
template <int kSteps, class T>
__device__ void rms(const T* weight, int width, int lane, float eps, float (&v)[kSteps][kStep]) {
  float squares = 0;
#pragma unroll
  for (int j = 0; j < kSteps; ++j)
#pragma unroll
    for (int i = 0; i < kStep; ++i) squares = fmaf(v[j][i], v[j][i], squares);
  const float factor = rsqrtf(warp_sum(squares) / static_cast<float>(width) + eps);
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const int column = (32 * j + lane) * kStep;
    if (column >= width) continue;
    float w[kStep];
    load_constant_eight(weight + column, w);
#pragma unroll
    for (int i = 0; i < kStep; ++i) v[j][i] = v[j][i] * factor * w[i];
  }
}

__device__ inline void rotate(const float (&r)[kStep], float (&v)[kStep]) {
#pragma unroll
  for (int i = 0; i < kStep; i += 2) {
    const float a = v[i], b = v[i + 1];
    v[i] = a * r[i] - b * r[i + 1];
    v[i + 1] = a * r[i + 1] + b * r[i];
  }
}

template <class Out>
__device__ void store_row_eight(Out* p, const float (&x)[kStep]) {
  if constexpr (std::is_same_v<Out, uint8_t>)
    store_e4m3_eight(p, x);
  else
    store_eight(p, x);
}

// Out is T, or uint8_t for e4m3.
template <int kSteps, class T, class Out>
__global__ void __launch_bounds__(32 * kWarpsPerBlock) qkv_rows_kernel(const QkvRows p) {
  const int lane = threadIdx.x % 32, width = static_cast<int>(p.width), part = blockIdx.y;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  if (row >= p.rows) return;
  const T* const in = static_cast<const T*>(p.qkv) + (3 * row + part) * width;
  Out* out = static_cast<Out*>(p.q) + row * width;
  if (part > 0) {
    const int64_t to = p.store_row[row] - p.first;
    if (to < 0 || to >= p.store_rows) return;
    out = static_cast<Out*>(part == 1 ? p.k : p.v) + to * width;
  }
  if (part == 2) {
    Eight<T> raw[kSteps];
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      const int column = (32 * j + lane) * kStep;
      if (column < width) raw[j].load(in + column);
    }
    float factor = 1;
    if constexpr (!std::is_same_v<Out, T>) factor = 1 / *p.v_scale;
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      const int column = (32 * j + lane) * kStep;
      if (column >= width) continue;
      if constexpr (std::is_same_v<Out, T>) {
        raw[j].store(out + column);
      } else {
        float v[kStep];
        raw[j].expand(v);
#pragma unroll
        for (int i = 0; i < kStep; ++i) v[i] *= factor;
        store_row_eight(out + column, v);
      }
    }
    return;
  }

  const int head_width = static_cast<int>(p.head_width);
  // Two floats a pair of channels: as many as the row of one head has values.
  const float* const rotations = p.rotations + static_cast<int64_t>(p.position[row]) * head_width;
  const bool same = (32 * kStep) % head_width == 0;  // all steps of a lane stand at one place of their heads
  float r[kStep];
  load_constant_eight(rotations + (lane * kStep) % head_width, r);
  float v[kSteps][kStep];
  load_row<kSteps>(in, width, lane, v);
  rms<kSteps>(static_cast<const T*>(part == 0 ? p.norm_q : p.norm_k), width, lane, p.eps, v);
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const int column = (32 * j + lane) * kStep;
    if (column >= width) continue;
    if (!same) load_constant_eight(rotations + column % head_width, r);
    rotate(r, v[j]);
    store_row_eight(out + column, v[j]);
  }
}

template <int kSteps, class T>
__global__ void __launch_bounds__(32 * kWarpsPerBlock) rms_rows_kernel(const RmsRows p) {
  const int lane = threadIdx.x % 32, width = static_cast<int>(p.width);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  if (row >= p.rows) return;
  float v[kSteps][kStep];
  load_row<kSteps>(static_cast<const T*>(p.x) + row * width, width, lane, v);
  rms<kSteps>(static_cast<const T*>(p.weight), width, lane, p.eps, v);
  T* const out = static_cast<T*>(p.out) + row * width;
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const int column = (32 * j + lane) * kStep;
    if (column < width) store_eight(out + column, v[j]);
  }
}

unsigned blocks_of(int64_t rows) { return static_cast<unsigned>((rows + kWarpsPerBlock - 1) / kWarpsPerBlock); }

}  // namespace

// ----------------------------------------------------------------------------------------------------------------------
// kernel launchers

int qkv_rows(const QkvRows& p, Stream stream) {
  if (p.rows == 0) return 0;
  if (p.head_width <= 0 || p.head_width % kRowStep != 0 || p.width % p.head_width != 0) return cudaErrorInvalidValue;
  return with_steps(p.width, [&](auto steps) {
    return with_float(p.type, [&](auto value) {
      const dim3 grid(blocks_of(p.rows), 3), block(32 * kWarpsPerBlock);
      using T = decltype(value);
      if (p.v_scale != nullptr)
        qkv_rows_kernel<decltype(steps)::value, T, uint8_t><<<grid, block, 0, stream>>>(p);
      else
        qkv_rows_kernel<decltype(steps)::value, T, T><<<grid, block, 0, stream>>>(p);
      return static_cast<int>(cudaGetLastError());
    });
  });
}

int rms_rows(const RmsRows& p, Stream stream) {
  if (p.rows == 0) return 0;
  return with_steps(p.width, [&](auto steps) {
    return with_float(p.type, [&](auto value) {
      rms_rows_kernel<decltype(steps)::value, decltype(value)>
          <<<dim3(blocks_of(p.rows)), dim3(32 * kWarpsPerBlock), 0, stream>>>(p);
      return static_cast<int>(cudaGetLastError());
    });
  });
}

}  // namespace longtake::cuda
