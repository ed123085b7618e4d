#include "cache/cuda/merge_rows.cuh"

#include "base/cuda/rows.cuh"

namespace longtake::cuda {
namespace {

__device__ inline float factor_of(const MergeRows& p, int64_t row) {
  const float gap = __fsub_rn(p.level[row], p.before_level[row]);
  if (gap == 0) return 0;
  return fminf(fmaxf(__fdiv_rn(__fsub_rn(p.now, p.level[row]), gap), 0.0f), p.clip);
}

template <class T>
__global__ void __launch_bounds__(32 * kWarpsPerBlock) merge_rows_kernel(const MergeRows p) {
  const int lane = threadIdx.x % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  if (row >= p.rows) return;
  const int32_t place = p.place ? p.place[row] : -1;
  const bool computed = place >= 0, wants_rest = !computed || p.distance;
  const float factor = wants_rest && p.predicts ? factor_of(p, row) : 0;
  const int64_t begin = row * p.width;
  float squares = 0;
  for (int64_t column = lane * kStep; column < p.width; column += 32 * kStep) {
    const int64_t at = begin + column;
    float embedded[kStep], last[kStep], rest[kStep];
    load_constant_eight(static_cast<const T*>(p.embedded) + at, embedded);
    Eight<T> raw_last;
    raw_last.load(static_cast<const T*>(p.residual) + at);
    raw_last.expand(last);
    Eight<T> out;
    if (wants_rest) {
      if (p.predicts) {
        float before[kStep];
        load_eight(static_cast<const T*>(p.before) + at, before);
#pragma unroll
        for (int i = 0; i < kStep; ++i)
          rest[i] = __fadd_rn(embedded[i], __fadd_rn(last[i], __fmul_rn(__fsub_rn(last[i], before[i]), factor)));
      } else {
#pragma unroll
        for (int i = 0; i < kStep; ++i) rest[i] = __fadd_rn(embedded[i], last[i]);
      }
      out.round(rest);
    }
    if (computed) {
      Eight<T> raw_fresh;
      float fresh[kStep], residual[kStep];
      raw_fresh.load_constant(static_cast<const T*>(p.fresh) + place * p.width + column);
      raw_fresh.expand(fresh);
      if (p.distance) {
        out.expand(rest);
#pragma unroll
        for (int i = 0; i < kStep; ++i) squares = fmaf(fresh[i] - rest[i], fresh[i] - rest[i], squares);
      }
      if (p.before) raw_last.store(static_cast<T*>(p.before) + at);
#pragma unroll
      for (int i = 0; i < kStep; ++i) residual[i] = __fsub_rn(fresh[i], embedded[i]);
      store_eight(static_cast<T*>(p.residual) + at, residual);
      out = raw_fresh;
    }
    out.store(static_cast<T*>(p.hidden) + at);
  }
  if (p.distance) squares = warp_sum(squares);
  // Behind the loop: all lanes have read the levels.
  __syncwarp();
  if (lane != 0) return;
  if (p.distance) p.distance[row] = computed ? sqrtf(squares) : 0;
  if (computed && p.level) {
    if (p.before_level) p.before_level[row] = p.level[row];
    p.level[row] = p.now;
  }
}

}  // namespace

int merge_rows(const MergeRows& p, Stream stream) {
  if (p.rows == 0) return 0;
  if (p.width <= 0 || p.width % kStep != 0) return cudaErrorInvalidValue;
  return with_float(p.type, [&](auto value) {
    const int64_t blocks = (p.rows + kWarpsPerBlock - 1) / kWarpsPerBlock;
    merge_rows_kernel<decltype(value)><<<dim3(static_cast<unsigned>(blocks)), dim3(32 * kWarpsPerBlock), 0, stream>>>(p);
    return static_cast<int>(cudaGetLastError());
  });
}

}  // namespace longtake::cuda
