// Generates held-out scenes with an exported model folder through the runtime, and scores them where OpenCV is built in.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

namespace longtake::train {

struct SampleOptions {
  std::filesystem::path folder, model;   // samples.safetensors and scores.jsonl go to `folder`
  int count = 12;
  int steps = 25, ar_step = 5, frames = 97, prefix_noise = 20;
  double shift = 5, guidance = 4;
  uint64_t seed = 1;
  at::Device device = at::kCPU;
};

void sample(const SampleOptions& options);

}  // namespace longtake::train
