// The loop over the windows of a run, whatever the model's family: what is kept in its folder and taken up from there, when finished
// chunks are decoded, where it stops.
#pragma once

#include <ATen/core/Tensor.h>

#include "cache/policy.h"
#include "runtime/generate_hooks.h"
#include "runtime/noise.h"
#include "runtime/run_layout.h"
#include "runtime/run_stats.h"

namespace longtake {

class RunFolder;

// What a window starts with besides noise; undefined where there is none.
struct GivenLatents {
  at::Tensor prefix;       // [C, P, h, w]
  at::Tensor end_picture;  // [C, 1, h, w]
};

// How a family makes a window. One object a run; windows come in order.
class WindowMaker {
 public:
  virtual ~WindowMaker() = default;

  // The prefix of a window that does not carry it. All frames before it are decoded, and nothing is being decoded.
  virtual at::Tensor encode_prefix(int window) = 0;
  // What a window leads to; likewise.
  virtual at::Tensor encode_end_picture(int window) = 0;
  // Puts policy and noise where they stood before window `next` began. latents [C, F, h, w]: of the window before it. Errors: bad_file for
  // a state that does not fit the run.
  virtual void take_up(int next, const at::Tensor& latents, const State& state) = 0;
  // Denoises the window, from its start or behind the row that `resume` was written after, and returns its clean latents [C, F, h, w],
  // prefix included. The same values in either case.
  virtual at::Tensor denoise(int window, const GivenLatents& given, RunStats& stats, const DenoiseHooks& hooks, const State* resume) = 0;
};

// How a family makes frames of latents, from one thread at a time, beside denoising. For each window: its prefix, its chunks that are
// denoised in their order, and the end of what there is of it. Frames go to GenerateHooks::on_frames.
class WindowDecoder {
 public:
  virtual ~WindowDecoder() = default;
  virtual void begin_window(int window, const at::Tensor& prefix) = 0;
  virtual void decode(int window, int chunk, const at::Tensor& latents) = 0;
  virtual void end_window() = 0;
  virtual double seconds() const = 0;  // so far
};

struct RunSettings {
  // Decode finished chunks in a thread of its own while later ones denoise: the same bits, sooner. Off, each window is decoded
  // when it is done, so that seconds of denoising and decoding can be told apart.
  bool decode_ahead = false;
  size_t decode_queue = 8;  // chunks that may wait before denoising waits for them
  // Run folders only: the largest state that is written within a window, and the share of time that may go into it. A state is
  // passed over at a finished chunk while writing it would take more than that share of the time since the last one.
  int64_t checkpoint_bytes = int64_t{1} << 30;
  double checkpoint_share = 0.005;
};

// Whether chunks that are finished with this row of a window are decoded behind the window's last one all the same: where one row is left,
// beginning beside it would win at most that row's time, and hold the window's keys and values beside what the VAE works with.
inline bool waits_for_window(int row, int rows) { return row + 2 >= rows; }

// Runs all windows of the layout.
//
// With a run folder, what is done is kept there, and what is there already is not done again: its frames and latents go through
// the hooks like new ones, and everything ends in the same bits as a run that was never interrupted. A run that stops on
// should_stop has decoded all chunks that are finished, and kept where it stood if the state fits checkpoint_bytes; of windows that were
// there already it has decoded the first ones alone if it was still at them.
//
// The policy and the noise are those that `maker` denoises with.
//
// Errors: interrupted; numerical (a chunk that ends in values that are not finite); those of the maker and of the folder.
RunStats run_windows(WindowMaker& maker, WindowDecoder& decoder, const RunLayout& layout, const RunSettings& settings, CachePolicy& policy,
                     NoiseSource& noise, const at::Device& device, const GenerateHooks& hooks, RunFolder* folder);

// Decodes what a folder that was attached to the layout holds of a run, without a transformer: finished windows, and the chunks of the one
// behind them. hooks: on_window_start, on_latents (of finished windows).
void decode_kept(WindowDecoder& decoder, const RunLayout& layout, const at::Device& device, const GenerateHooks& hooks, const RunFolder& folder);

}  // namespace longtake
