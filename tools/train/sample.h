// Generates held-out scenes with an exported model folder through the runtime, and scores them where OpenCV is built in.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

namespace longtake::train {

struct SampleOptions {
  std::filesystem::path folder, model;  // scores.jsonl (and samples.safetensors) go to `folder`
  std::vector<std::string> policies = {};  // each prompt is run with all of them on the same noise; "drawn" and "vae" are the
                                           // scene's own clip, as drawn and through the VAE
  int count = 12;
  std::vector<std::string> set = {};       // "KEY=VALUE" of the options' schema, for MAGI-1, which has its recipe's settings otherwise
  // Of SkyReels-V2:
  int steps = 50, ar_step = 5, frames = 97, prefix_noise = 20;
  double shift = 5, guidance = 6;
  bool keep = false;                    // the frames too
  uint64_t seed = 1;
  at::Device device = at::kCPU;
};

void sample(const SampleOptions& options);

}  // namespace longtake::train
