#include "runtime/schedule.h"

#include <ATen/ops/empty.h>

#include "base/error.h"
#include "runtime/unipc.h"

namespace longtake {

std::vector<ChunkSpan> split_chunks(int latent_frames, int frames_per_chunk) {
  if (latent_frames < 1 || frames_per_chunk < 1)
    fail_usage("a window needs at least one latent frame and chunks of at least one, got {} and {}", latent_frames,
               frames_per_chunk);
  std::vector<ChunkSpan> spans;
  for (int first = 0; first < latent_frames; first += frames_per_chunk)
    spans.push_back({first, std::min(frames_per_chunk, latent_frames - first)});
  return spans;
}

std::vector<ChunkSpan> window_chunks(const WindowSpan& window, int frames_per_chunk) {
  std::vector<ChunkSpan> chunks;
  int first = 0;
  const auto append = [&](int latents) {
    for (const ChunkSpan& chunk : split_chunks(latents, frames_per_chunk)) chunks.push_back({first + chunk.first, chunk.frames});
    first += latents;
  };
  if (window.end_picture) append(1);
  if (window.prefix_latents > 0) append(window.prefix_latents);
  append(window.latent_frames - window.prefix_latents);
  return chunks;
}

int latent_of_chunk(const WindowSpan& window, const ChunkSpan& chunk) {
  if (!window.end_picture) return chunk.first;
  return chunk.first == 0 ? window.latent_frames : chunk.first - 1;
}

int prefix_chunks(const WindowSpan& window, int frames_per_chunk) {
  return (window.prefix_latents + frames_per_chunk - 1) / frames_per_chunk + (window.end_picture ? 1 : 0);
}

Schedule::Schedule(std::vector<int> timesteps, int chunks, int ready_chunks, int ar_step)
    : timesteps_(std::move(timesteps)), chunks_(chunks), ready_chunks_(ready_chunks) {
  if (timesteps_.empty()) fail_usage("the schedule needs at least one denoising step");
  if (chunks < 1 || ready_chunks < 0 || ready_chunks > chunks)
    fail_usage("the schedule needs 0 <= prefix chunks <= chunks and at least one chunk, got {} of {}", ready_chunks,
               chunks);
  if (ar_step < 0) fail_usage("ar_step must be 0 (all chunks together) or more, got {}", ar_step);

  // state[b]: 0 idle, k while tau_k is being applied, S+1 done.
  const int last = steps();
  std::vector<int> state(chunks, 0);
  std::fill_n(state.begin(), ready_chunks, last + 1);
  auto unfinished = [&] { return std::any_of(state.begin(), state.end(), [&](int s) { return s < last; }); };
  while (unfinished()) {
    std::vector<int> next(chunks);
    for (int b = 0; b < chunks; ++b) {
      // A chunk leads where nothing unfinished stands to its left; the others keep their distance, negative while they
      // wait.
      const bool leads = b == 0 || state[b - 1] >= last;
      next[b] = leads ? state[b] + 1 : next[b - 1] - ar_step;
    }
    for (int b = 0; b < chunks; ++b) {
      next[b] = std::clamp(next[b], 0, last + 1);
      ChunkStep step;
      step.idle = next[b] == 0;
      step.update = next[b] != state[b] && next[b] != last + 1;
      step.step = std::max(0, next[b] - 1);
      step.timestep = step.idle ? idle_timestep : next[b] > last ? 0 : timesteps_[next[b] - 1];
      steps_.push_back(step);
    }
    state = std::move(next);
  }
}

std::span<const ChunkStep> Schedule::row(int row) const {
  LONGTAKE_CHECK(row >= 0 && row < rows(), "row {} of {}", row, rows());
  return std::span(steps_).subspan(static_cast<size_t>(row) * chunks_, chunks_);
}

std::vector<int> Schedule::active(int row) const {
  const auto steps = this->row(row);
  std::vector<int> chunks;
  for (int b = 0; b < chunks_; ++b)
    if (steps[b].update) chunks.push_back(b);
  return chunks;
}

int Schedule::last_row(int chunk) const {
  LONGTAKE_CHECK(chunk >= 0 && chunk < chunks_, "chunk {} of {}", chunk, chunks_);
  for (int r = rows() - 1; r >= 0; --r)
    if (row(r)[chunk].update) return r;
  return -1;
}

TimestepMatrix timestep_matrix(int num_frames, int steps, int base, int ar_step, int pre_ready, int block,
                               double shift) {
  if (block < 1 || num_frames < block || base < block)
    fail_usage("blocks of {} latent frames do not fit into {} frames with a window of {}", block, num_frames, base);
  const int blocks = num_frames / block, base_blocks = base / block;
  if (base_blocks < blocks && ar_step * base_blocks < steps)
    fail_usage("ar_step must be at least {} where {} frames exceed the window of {}, got {}",
               (steps + base_blocks - 1) / base_blocks, num_frames, base, ar_step);
  const Schedule schedule(flow_timesteps(steps, shift), blocks, std::min(pre_ready / block, blocks), ar_step);

  const int64_t rows = schedule.rows(), frames = int64_t{blocks} * block;
  TimestepMatrix out{at::empty({rows, frames}, at::kLong), at::empty({rows, frames}, at::kLong),
                     at::empty({rows, frames}, at::kBool), at::empty({rows, 2}, at::kLong)};
  int64_t* matrix = out.matrix.mutable_data_ptr<int64_t>();
  int64_t* index = out.index.mutable_data_ptr<int64_t>();
  bool* mask = out.mask.mutable_data_ptr<bool>();
  int64_t* interval = out.interval.mutable_data_ptr<int64_t>();
  int end = std::min(base_blocks, blocks);
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = schedule.row(static_cast<int>(r));
    // The interval moves on by one block when the first block behind it starts.
    if (end < blocks && row[end].update) ++end;
    interval[2 * r] = int64_t{std::max(end - base_blocks, 0)} * block;
    interval[2 * r + 1] = int64_t{end} * block;
    for (int64_t f = 0; f < frames; ++f) {
      const ChunkStep& step = row[f / block];
      matrix[r * frames + f] = step.timestep;
      index[r * frames + f] = step.idle ? 0 : step.step + 1;
      mask[r * frames + f] = step.update;
    }
  }
  return out;
}

}  // namespace longtake
