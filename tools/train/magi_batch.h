// Batches of windows for MAGI-1, as its schedule would find them in the middle of a run.
#pragma once

#include <string>

#include "tools/train/latent_pool.h"
#include "tools/train/magi_forward.h"
#include "tools/train/magi_plan.h"

namespace longtake::train {

struct MagiBatch {
  MagiStructure structure;
  MagiWindows windows;
  at::Tensor velocity;                // clean - noise, [B, 16, F, 16, 16]
  at::Tensor weight;                  // [B, 1, F, 1, 1], 0 where a frame is given
  std::vector<std::string> captions;  // caption i is of window i
};

struct MagiBatchOptions {
  bool distilled = false;
  int chunk_frames = 6;
  int batch_chunks = 12;
  double drop_text = 0.15;  // base models
  at::Device device = at::kCPU;
};

// `chunks` in each window.
MagiBatch draw_magi_batch(const MagiBatchOptions& options, int chunks, const LatentPool& pool, demo::Random& random);

// The same windows as the base model's three branches of guidance see them: with the caption, without, and each chunk alone without.
struct MagiBranches {
  MagiWindows text, null_text, alone;
};
MagiBranches guidance_windows(const MagiBatch& batch);

}  // namespace longtake::train
