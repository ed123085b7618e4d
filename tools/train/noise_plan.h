// Diffusion forcing in training: which noise each chunk of a window has, as the schedules of generation produce it.
#pragma once

#include <cstdint>
#include <vector>

#include "models/demo/clips.h"

namespace longtake::train {

struct NoisePlan {
  bool causal = true;
  std::vector<double> sigma;      // by chunk
  std::vector<double> timestep;   // by chunk, whole numbers as the sampler passes them
  std::vector<bool> learn;        // by chunk: whether its velocity counts
  demo::Start start = demo::Start::beginning;
};

// Of one batch: whether chunks look ahead, which is the same for all of its windows.
struct NoiseOptions {
  double shift = 5;
  double causal_share = 0.75;
  double clean_share = 0.3;       // of windows of two chunks and more: the first one is given
};

// One window of `chunks` chunks: all equal, each for itself, or staggered as in an asynchronous schedule, a third each; with a given first
// chunk the others follow the same three. Given chunks are clean (timestep 0) or slightly noised (20).
NoisePlan plan_noise(int chunks, bool causal, const NoiseOptions& options, demo::Random& random);

}  // namespace longtake::train
