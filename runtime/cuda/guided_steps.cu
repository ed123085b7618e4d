#include "runtime/cuda/guided_steps.cuh"

#include <algorithm>

namespace longtake::cuda {
namespace {

constexpr int kThreads = 256;

__device__ inline float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float minus(float a, float b) { return __fsub_rn(a, b); }
__device__ inline float times(float a, float b) { return __fmul_rn(a, b); }

__global__ void __launch_bounds__(kThreads) guided_steps_kernel(const __grid_constant__ GuidedSteps p) {
  const GuidedStep& s = p.step[blockIdx.y];
  const int64_t count = s.channels * s.inner;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += static_cast<int64_t>(gridDim.x) * kThreads) {
    float velocity = s.cond[i];
    if (s.uncond) velocity = plus(s.uncond[i], times(minus(velocity, s.uncond[i]), p.guidance));
    float* const sample = s.sample + (i / s.inner) * s.sample_stride + i % s.inner;
    const float m = minus(*sample, times(velocity, s.sigma));
    const float m1 = s.m1 ? s.m1[i] : 0;
    float x = *sample;
    if (s.corrects) {
      float change = times(minus(m, m1), s.corrector.now);
      if (s.corrector.second_order) change = plus(times(minus(s.m2[i], m1), s.corrector.past), change);
      x = minus(minus(times(s.last[i], s.corrector.ratio), times(m1, s.corrector.scale)), times(change, s.corrector.scale));
    }
    float next = m;
    if (s.predicts) {
      next = minus(times(x, s.predictor.ratio), times(m, s.predictor.scale));
      if (s.predictor.second_order) next = minus(next, times(minus(m1, m), s.predictor.past));
    }
    s.m[i] = m;
    s.x[i] = x;
    *sample = next;
  }
}

}  // namespace

int guided_steps(const GuidedSteps& p, Stream stream) {
  if (p.count < 0 || p.count > kGuidedSteps) return cudaErrorInvalidValue;
  int64_t largest = 0;
  for (int i = 0; i < p.count; ++i) largest = std::max(largest, p.step[i].channels * p.step[i].inner);
  if (largest == 0) return 0;
  const int64_t blocks = std::min<int64_t>((largest + kThreads - 1) / kThreads, 1024);
  guided_steps_kernel<<<dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(p.count)), kThreads, 0, stream>>>(p);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace longtake::cuda
