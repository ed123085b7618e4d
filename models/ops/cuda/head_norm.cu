#include "models/ops/cuda/head_norm.cuh"

#include "base/cuda/rows.cuh"

namespace longtake::cuda {
namespace {

static_assert(kStep == kHeadStep);

// Heads that each group of lanes takes one after another, with all their loads ahead.
constexpr int kHeadsInTurn = 4;

// ----------------------------------------------------------------------------------------------------------------------
// CUDA kernel

// Over groups of kLanes neighbouring lanes; every lane of the warp must come here.
template <int kLanes>
__device__ inline float group_sum(float x) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

template <int kLanes, class T>
__global__ void __launch_bounds__(32 * kWarpsPerBlock) head_norm_kernel(const HeadNorm p) {
  constexpr int kGroups = 32 / kLanes;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  if (row >= p.rows) return;  // the whole warp
  const int lane = threadIdx.x % 32, width = static_cast<int>(p.width), heads = static_cast<int>(p.heads);
  const int column = lane % kLanes * kStep, first = static_cast<int>(blockIdx.y) * kHeadsInTurn * kGroups + lane / kLanes;
  const bool inside = column < width;
  const T* const x = static_cast<const T*>(p.x) + row * p.row_stride + column;
  T* const out = static_cast<T*>(p.out) + row * heads * width + column;

  Eight<T> raw[kHeadsInTurn];
#pragma unroll
  for (int j = 0; j < kHeadsInTurn; ++j) {
    const int head = first + j * kGroups;
    if (inside && head < heads)
      raw[j].load(x + head * p.head_stride);
    else
      raw[j].zero();
  }
  float gain[kStep] = {}, bias[kStep] = {}, sine[kStep] = {}, cosine[kStep] = {};
  if (inside) {
    load_constant_eight(p.gain + column, gain);
    load_constant_eight(p.bias + column, bias);
  }
  // The lane that holds the other half of this one's pairs.
  const int half = static_cast<int>(p.half);
  const bool turns = p.rotations && column < 2 * half, is_second = column >= half;
  const int other_lane = !turns ? lane : is_second ? lane - half / kStep : lane + half / kStep;
  if (turns) {
    const float* const table = p.rotations + row * 2 * half + (is_second ? column - half : column);
    load_constant_eight(table, sine);
    load_constant_eight(table + half, cosine);
  }

#pragma unroll
  for (int j = 0; j < kHeadsInTurn; ++j) {
    const int head = first + j * kGroups;
    float v[kStep], sum = 0, squares = 0;
    raw[j].expand(v);
#pragma unroll
    for (int i = 0; i < kStep; ++i) sum += v[i];  // values beyond the width are 0
    const float mean = group_sum<kLanes>(sum) / static_cast<float>(width);
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      v[i] = inside ? v[i] - mean : 0.0f;
      squares = fmaf(v[i], v[i], squares);
    }
    const float factor = rsqrtf(group_sum<kLanes>(squares) / static_cast<float>(width) + p.eps);
#pragma unroll
    for (int i = 0; i < kStep; ++i) v[i] = fmaf(v[i] * factor, gain[i], bias[i]);
    if (p.rotations) {
#pragma unroll
      for (int i = 0; i < kStep; ++i) {
        const float other = __shfl_sync(0xffffffffu, v[i], other_lane);
        const float own_part = __fmul_rn(v[i], cosine[i]), other_part = __fmul_rn(other, sine[i]);
        if (turns) v[i] = is_second ? __fadd_rn(own_part, other_part) : __fsub_rn(own_part, other_part);
      }
    }
    if (inside && head < heads) store_eight(out + head * width, v);
  }
}

// ----------------------------------------------------------------------------------------------------------------------
// kernel launcher

template <int kLanes, class T>
int launch(const HeadNorm& p, Stream stream) {
  constexpr int64_t kTogether = kHeadsInTurn * (32 / kLanes);
  const int64_t blocks = (p.rows + kWarpsPerBlock - 1) / kWarpsPerBlock, slices = (p.heads + kTogether - 1) / kTogether;
  if (blocks > 0x7fffffff || slices > 0xffff) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(slices));
  head_norm_kernel<kLanes, T><<<grid, dim3(32 * kWarpsPerBlock), 0, stream>>>(p);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace

int head_norm(const HeadNorm& p, Stream stream) {
  if (p.rows == 0 || p.heads == 0) return 0;
  if (!head_fits(p.width) || (p.rotations && (p.half <= 0 || p.half % kHeadStep != 0 || 2 * p.half > p.width))) return cudaErrorInvalidValue;
  return with_float(p.type, [&](auto value) {
    using T = decltype(value);
    if (p.width <= 8 * kHeadStep) return launch<8, T>(p, stream);
    if (p.width <= 16 * kHeadStep) return launch<16, T>(p, stream);
    return launch<32, T>(p, stream);
  });
}

}  // namespace longtake::cuda
