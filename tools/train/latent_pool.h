// Clips drawn and encoded once, before training: windows are taken out of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <vector>

#include "models/demo/clips.h"
#include "tools/train/moments.h"

namespace longtake::train {

struct LatentPool {
  struct Part {
    std::vector<demo::Scene> scenes;
    at::Tensor latents;  // [clips, 16, frames, 16, 16] half precision, on the training device
  };
  std::map<demo::Start, Part> parts;

  // `clips` of each start, of `frames` latent frames.
  LatentPool(const MomentEncoder& encoder, int clips, int64_t frames, uint64_t seed, const at::Device& device, int threads);
};

}  // namespace longtake::train
