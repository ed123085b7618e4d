// Device code of kernels that give one packed row to one warp: each lane holds eight neighbouring values in every step,
// so that 2-byte types move in 16-byte accesses and float in two of them, and the only exchange between threads is a
// shuffle.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "base/cuda/kernel.h"

namespace longtake::cuda {

constexpr int kStep = static_cast<int>(kRowStep);
constexpr int kWarpsPerBlock = 4;

__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

__device__ inline float warp_max(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}

// Eight values as they lie in memory: loads can all be issued before the first value is needed.
template <class T>
struct Eight {
  static_assert(sizeof(T) == 2);
  uint4 raw;

  __device__ void load(const T* p) { raw = *reinterpret_cast<const uint4*>(p); }
  __device__ void load_constant(const T* p) { raw = __ldg(reinterpret_cast<const uint4*>(p)); }
  __device__ void store(T* p) const { *reinterpret_cast<uint4*>(p) = raw; }
  __device__ void zero() { raw = make_uint4(0, 0, 0, 0); }
  __device__ void expand(float (&x)[kStep]) const {
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float2 pair;
      if constexpr (std::is_same_v<T, __half>)
        pair = __half22float2(*reinterpret_cast<const __half2*>(&words[i]));
      else
        pair = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&words[i]));
      x[2 * i] = pair.x;
      x[2 * i + 1] = pair.y;
    }
  }
  __device__ void round(const float (&x)[kStep]) {
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (std::is_same_v<T, __half>) {
        const __half2 pair = __floats2half2_rn(x[2 * i], x[2 * i + 1]);
        words[i] = *reinterpret_cast<const unsigned*>(&pair);
      } else {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
        words[i] = *reinterpret_cast<const unsigned*>(&pair);
      }
    }
    raw = make_uint4(words[0], words[1], words[2], words[3]);
  }
};

template <>
struct Eight<float> {
  float4 low, high;

  __device__ void load(const float* p) {
    low = reinterpret_cast<const float4*>(p)[0];
    high = reinterpret_cast<const float4*>(p)[1];
  }
  __device__ void load_constant(const float* p) {
    low = __ldg(reinterpret_cast<const float4*>(p));
    high = __ldg(reinterpret_cast<const float4*>(p) + 1);
  }
  __device__ void store(float* p) const {
    reinterpret_cast<float4*>(p)[0] = low;
    reinterpret_cast<float4*>(p)[1] = high;
  }
  __device__ void zero() { low = high = make_float4(0, 0, 0, 0); }
  __device__ void expand(float (&x)[kStep]) const {
    x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
    x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
  }
  __device__ void round(const float (&x)[kStep]) {
    low = make_float4(x[0], x[1], x[2], x[3]);
    high = make_float4(x[4], x[5], x[6], x[7]);
  }
};

template <class T>
__device__ void load_eight(const T* p, float (&x)[kStep]) {
  Eight<T> eight;
  eight.load(p);
  eight.expand(x);
}

// Of data that nothing writes while the kernel runs: such loads may move ahead of stores.
template <class T>
__device__ void load_constant_eight(const T* p, float (&x)[kStep]) {
  Eight<T> eight;
  eight.load_constant(p);
  eight.expand(x);
}

template <class T>
__device__ void store_eight(T* p, const float (&x)[kStep]) {
  Eight<T> eight;
  eight.round(x);
  eight.store(p);
}

// Calls f with a value of the type, or with the number of steps that a row of this width takes (1, 2, 6, 12 or 20: 1536
// and 5120 channels fit exactly).
template <class F>
int with_float(Float type, F f) {
  switch (type) {
    case Float::f32:
      return f(float{});
    case Float::f16:
      return f(__half{});
    case Float::bf16:
      return f(__nv_bfloat16{});
  }
  return cudaErrorInvalidValue;
}

template <class F>
int with_steps(int64_t width, F f) {
  const int64_t steps = (width + 32 * kStep - 1) / (32 * kStep);
  if (!row_fits(width)) return cudaErrorInvalidValue;
  if (steps <= 1) return f(std::integral_constant<int, 1>{});
  if (steps <= 2) return f(std::integral_constant<int, 2>{});
  if (steps <= 6) return f(std::integral_constant<int, 6>{});
  if (steps <= 12) return f(std::integral_constant<int, 12>{});
  return f(std::integral_constant<int, 20>{});
}

// For kernels that give a row to one block: as few threads as hold it in five steps, so that each has several loads in flight and little of
// the last step is idle. launch(std::integral_constant<int, steps>(), threads) -> its result; an error for rows beyond five steps.
template <class Launch>
int with_block_steps(int64_t width, const Launch& launch) {
  const int64_t eights = width / kStep;
  int64_t threads = 64;
  while (threads * 5 < eights) threads *= 2;
  const auto n = static_cast<unsigned>(threads);
  switch ((eights + threads - 1) / threads) {
    case 1: return launch(std::integral_constant<int, 1>(), n);
    case 2: return launch(std::integral_constant<int, 2>(), n);
    case 3: return launch(std::integral_constant<int, 3>(), n);
    case 4: return launch(std::integral_constant<int, 4>(), n);
    case 5: return launch(std::integral_constant<int, 5>(), n);
    default: return static_cast<int>(cudaErrorInvalidValue);
  }
}

}  // namespace longtake::cuda
