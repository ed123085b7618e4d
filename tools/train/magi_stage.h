// Training of the MAGI-1 demo models on the demo model's latents and texts: a base model by flow matching, and from it a distilled one,
// which answers in one forward what the base model's three guided ones say.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <filesystem>

#include "models/magi/config.h"

namespace longtake::train {

inline constexpr int kMagiChunkFrames = 6;

// Heads of 64, of which two share keys and values; captions as the demo's text encoder makes them.
magi::ModelConfig demo_magi_config(int64_t dim, int64_t layers);

struct MagiOptions {
  // magi[-distill].safetensors (averaged weights, original names), .state.safetensors and .jsonl. The distilled model begins with, and
  // learns from, magi.safetensors, whose sizes it has.
  std::filesystem::path folder;
  std::filesystem::path demo;      // the demo model's folder, whose VAE, tokenizer and text encoder are used as they are
  bool distilled = false;
  double minutes = 7;
  bool cpu_time = false;
  int64_t dim = 256, layers = 4;   // of a base model
  int pool = 500;                  // clips drawn beforehand, and as many that start anywhere on their way
  int batch_chunks = 12;           // chunks a step: windows times their chunks
  std::array<double, 3> mix = {0.3, 0.3, 0.4};  // shares of steps on one chunk, two, and three to five
  double rate = 1.5e-3, average = 0.995, drop_text = 0.15;
  double guidance = 4, prev_guidance = 1.5;     // that a distilled model learns, up to time 0.3
  bool bfloat16 = false;           // compute in bfloat16 on float32 weights
  uint64_t seed = 1;
  at::Device device = at::kCPU;
  int draw_threads = 1;            // that draw the pool
};

// Goes on where the folder has a state; writes when the time is up, and now and then.
void train_magi(const MagiOptions& options);

}  // namespace longtake::train
