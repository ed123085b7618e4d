// Training of the transformer and the text encoder on latents of freshly drawn clips.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <filesystem>
#include <map>

#include "tools/train/noise_plan.h"
#include "tools/train/prompts.h"

namespace longtake::train {

struct DitOptions {
  std::filesystem::path folder;    // reads moments.safetensors; dit.state.safetensors, dit.safetensors, text.safetensors, spiece.model, dit.jsonl
  double minutes = 25;
  bool cpu_time = false;
  int64_t dim = 128, layers = 4;
  int pool = 1000;                 // clips drawn beforehand, and as many that start anywhere on their way
  int batch_chunks = 12;           // chunks a step: windows times their chunks
  std::array<double, 3> mix = {0.5, 0.3, 0.2};  // shares of steps on windows of 1, 2 and 5 chunks
  double rate = 2e-3, average = 0.995, drop_text = 0.12;
  bool bfloat16 = false;           // compute in bfloat16 on float32 weights
  NoiseOptions noise = {};
  uint64_t seed = 1;
  at::Device device = at::kCPU;
  int draw_threads = 1;  // that draw clips beside the training
};

// Goes on where the folder has a state; writes the averaged weights (original names, float32) when the time is up.
void train_dit(const DitOptions& options);

// A scene's caption in a random style, now and then with a capital letter or a full stop.
std::string training_prompt(const demo::Scene& scene, demo::Random& random);

}  // namespace longtake::train
