// Where and when a run computed: shares of recomputed tokens by denoising step, and by place in the video.
//
// Decisions are collected while the run goes on and counted afterwards: their token lists may lie on the GPU, and
// reading them would hold up the run that is being timed. Prefix chunks, and chunks that full attention drags along
// before their first or after their last step, are left out of both pictures: they are context, not decisions.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "runtime/denoise_hooks.h"
#include "runtime/run_layout.h"

namespace longtake {

class WorkMap {
 public:
  explicit WorkMap(RunLayout layout) : layout_(std::move(layout)) {}

  void add(const DecisionRecord& record);

  // Share of tokens recomputed in each of a chunk's own steps, 0..1; over all chunks, windows and branches.
  std::vector<double> by_step() const;

  // By latent frame of the video and token of its plane: in which share of its steps it was recomputed, 0..1. float32
  // [latent frames, height / 2, width / 2] of the layout's latents, CPU.
  at::Tensor by_place() const;

 private:
  RunLayout layout_;
  std::vector<DecisionRecord> records_;
};

// The latent frame that holds frame t of a video; `missing` as RunLayout::missing_frames.
constexpr int64_t latent_of_frame(int64_t t, int missing = 3) { return (t + missing) / 4; }

}  // namespace longtake
