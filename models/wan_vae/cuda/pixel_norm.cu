#include "models/wan_vae/cuda/pixel_norm.cuh"

#include "base/cuda/rows.cuh"

namespace longtake::cuda {
namespace {

constexpr int kThreads = 256;

// ----------------------------------------------------------------------------------------------------------------------
// CUDA kernel

template <int kLanes, int kSteps, class T>
__global__ void __launch_bounds__(kThreads) pixel_norm_kernel(const PixelNorm p) {
  const int lane = threadIdx.x % kLanes, channels = static_cast<int>(p.channels);
  const int64_t pixel = static_cast<int64_t>(blockIdx.x) * (kThreads / kLanes) + threadIdx.x / kLanes;
  const bool inside = pixel < p.pixels;  // (lanes behind the last pixel still take part in the shuffles)
  const T* const x = static_cast<const T*>(p.x) + (inside ? pixel : 0) * channels;

  Eight<T> raw[kSteps];
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const int column = (kLanes * j + lane) * kStep;
    if (inside && column < channels)
      raw[j].load_constant(x + column);
    else
      raw[j].zero();
  }
  float v[kSteps][kStep], squares = 0;
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    raw[j].expand(v[j]);
#pragma unroll
    for (int i = 0; i < kStep; ++i) squares = fmaf(v[j][i], v[j][i], squares);
  }
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, distance);
  const float length = sqrtf(squares);
  const float scale = sqrtf(static_cast<float>(channels)) / (length < 1e-12f ? 1e-12f : length);  // (fmaxf would lose a NaN)
  if (!inside) return;

  T* const out = static_cast<T*>(p.out) + pixel * channels;
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const int column = (kLanes * j + lane) * kStep;
    if (column >= channels) continue;
    float gamma[kStep];
    load_constant_eight(p.gamma + column, gamma);
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      const float y = v[j][i] * scale * gamma[i];
      v[j][i] = p.silu ? y / (1.0f + expf(-y)) : y;
    }
    store_eight(out + column, v[j]);
  }
}

template <int kLanes, int kSteps>
int launch(const PixelNorm& p, Stream stream) {
  constexpr int64_t kPixels = kThreads / kLanes;
  const int64_t blocks = (p.pixels + kPixels - 1) / kPixels;
  if (blocks > 0x7fffffff) return cudaErrorInvalidValue;
  return with_float(p.type, [&](auto value) {
    pixel_norm_kernel<kLanes, kSteps, decltype(value)><<<dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream>>>(p);
    return static_cast<int>(cudaGetLastError());
  });
}

}  // namespace

// ----------------------------------------------------------------------------------------------------------------------
// kernel launcher

int pixel_norm(const PixelNorm& p, Stream stream) {
  if (p.pixels == 0) return 0;
  if (!pixel_norm_fits(p.channels)) return cudaErrorInvalidValue;
  if (p.channels <= 16 * kStep) return launch<16, 1>(p, stream);
  if (p.channels <= 32 * kStep) return launch<32, 1>(p, stream);
  return launch<32, 2>(p, stream);
}

}  // namespace longtake::cuda
