// The denoising schedule of one window: which chunk stands at which timestep in which row, and which chunks a row
// updates.
//
// SkyReels-V2 diffusion forcing (reference: skyreels_v2_infer/pipelines/diffusion_forcing_pipeline.py, the step
// matrix). A chunk is idle (pure noise, timestep 999), at one of the S steps tau_1..tau_S, or done (clean, timestep 0).
// With ar_step = 0 all chunks go in step; otherwise each chunk trails its left neighbour by ar_step steps until that
// one is done.
//
// Frames are latent frames throughout. The schedule depends on integers only, so everything that follows from it (cache
// decisions on the step index, dry runs, progress) is known before the first model call.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "runtime/windows.h"

namespace longtake {

// Latent frames [first, first + frames) of a window.
struct ChunkSpan {
  int first = 0;
  int frames = 0;
};

// Chunks of `frames_per_chunk` latent frames; the last one is shorter where the division leaves a rest. (The reference
// floors and never denoises the rest; callers that need its results refuse such windows, see windows.h.)
std::vector<ChunkSpan> split_chunks(int latent_frames, int frames_per_chunk);

// The chunks of a window: those of its prefix, then those of what is new. A prefix that ends within a chunk of the grid thus
// has a short last chunk of its own, so that no chunk is part given and part generated. (The reference counts whole blocks
// only: it denoises an image away unless chunks are single frames.)
//
// A picture at the window's end is chunk 0, and the others come one latent frame later: keys are ordered so that what is given stands
// before what attends to it. Its place in time is behind the last latent frame all the same (WindowGeometry::Chunk::shift).
std::vector<ChunkSpan> window_chunks(const WindowSpan& window, int frames_per_chunk);
// The latent frame of the window's video that a chunk of it begins with; for the end picture, the one behind the last.
int latent_of_chunk(const WindowSpan& window, const ChunkSpan& chunk);
// How many of them are given: the prefix, and the end picture.
int prefix_chunks(const WindowSpan& window, int frames_per_chunk);

// One chunk in one row.
struct ChunkStep {
  int timestep = 0;     // what the model is told: 999 idle, tau_k, 0 done
  int step = 0;         // updates done before this row: 0 idle, k-1 at tau_k, S done
  bool idle = false;    // not started: pure noise
  bool update = false;  // this row's solver step moves the chunk

  bool done() const { return !update && !idle; }
};

class Schedule {
 public:
  // timesteps: tau_1..tau_S, descending (see unipc.h). The first `ready_chunks` chunks are a clean prefix and never
  // move. Throws (usage) for an empty timestep list, a negative ar_step, or counts that contradict each other.
  Schedule(std::vector<int> timesteps, int chunks, int ready_chunks, int ar_step);

  int rows() const { return static_cast<int>(steps_.size()) / chunks_; }
  int chunks() const { return chunks_; }
  int steps() const { return static_cast<int>(timesteps_.size()); }
  int ready_chunks() const { return ready_chunks_; }
  const std::vector<int>& timesteps() const { return timesteps_; }

  // All chunks of a row, left to right.
  std::span<const ChunkStep> row(int row) const;
  // Chunks that the row updates, ascending; every chunk behind the prefix is updated exactly steps() times.
  std::vector<int> active(int row) const;
  // The row that brings the chunk to its last step; -1 for prefix chunks.
  int last_row(int chunk) const;

  static constexpr int idle_timestep = 999;

 private:
  std::vector<int> timesteps_;
  int chunks_;
  int ready_chunks_;
  std::vector<ChunkStep> steps_;  // row-major [rows, chunks]
};

// The reference's own form, a column per latent frame; for parity checks. Frames that do not fill a block have no
// column.
struct TimestepMatrix {
  at::Tensor matrix;    // int64 [rows, frames]: timesteps
  at::Tensor index;     // int64 [rows, frames]: 0 idle, k at tau_k, S+1 done
  at::Tensor mask;      // bool [rows, frames]: updated
  at::Tensor interval;  // int64 [rows, 2]: the frames [first, last) that a model with `base` frames may see
};

// Settings as the reference names them; `pre_ready` is the number of ready prefix frames. Like the reference it refuses
// (usage) num_frames > base with ar_step < steps / (base / block): the moving interval would leave unfinished chunks
// behind.
TimestepMatrix timestep_matrix(int num_frames, int steps, int base, int ar_step, int pre_ready, int block,
                               double shift);

}  // namespace longtake
