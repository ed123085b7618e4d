// Guidance and the UniPC step of all chunks of a row, in one launch.
//
// Every operation is rounded as plain tensor operations would round it (no fused multiply-add), so that the result is the same bit for
// bit as UniPc::step on the same device.
#pragma once

#include "base/cuda/kernel.h"

namespace longtake::cuda {

// new = ratio * x - scale * (...), see UniPc::Update; `past` is already divided by r where it has to be.
struct SolverUpdate {
  float ratio = 0, scale = 0, past = 0, now = 0;
  bool second_order = false;
};

// One chunk: [channels, inner] float32, dense but for the sample, whose channels lie `sample_stride` apart.
struct GuidedStep {
  const float* cond = nullptr;
  const float* uncond = nullptr;  // null: no guidance
  float* sample = nullptr;        // read, and at last overwritten with the next one
  int64_t sample_stride = 0;
  const float *m1 = nullptr, *m2 = nullptr, *last = nullptr;  // the state; null where the step has none
  float *m = nullptr, *x = nullptr;                           // the new clean prediction and the corrected sample
  int64_t channels = 0, inner = 0;
  float sigma = 0;
  bool corrects = false, predicts = false;  // not in the first step; not in the last one
  SolverUpdate corrector, predictor;
};

constexpr int kGuidedSteps = 16;  // in one launch at most

struct GuidedSteps {
  GuidedStep step[kGuidedSteps];
  int count = 0;
  float guidance = 0;
};

int guided_steps(const GuidedSteps& p, Stream stream);

}  // namespace longtake::cuda
