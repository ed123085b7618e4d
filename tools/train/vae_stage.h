// Training of the VAE's decoder against the constructed encoder (moments.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>

namespace longtake::train {

struct VaeOptions {
  std::filesystem::path folder;   // vae.state.safetensors, vae.safetensors, moments.safetensors, vae.jsonl
  double minutes = 12;
  bool cpu_time = false;
  int batch = 4;
  int crop = 64;                  // pixels, a multiple of 8
  int frames = 9;                 // 1 + 4k
  double rate = 2e-3;
  uint64_t seed = 1;
  at::Device device = at::kCPU;
  int draw_threads = 1;  // that draw clips beside the training
};

// Goes on where the folder has a state; writes the averaged weights (original names, float32) when the time is up.
void train_vae(const VaeOptions& options);

}  // namespace longtake::train
