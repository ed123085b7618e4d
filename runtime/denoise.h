// The denoising loop of one window: rows of the schedule, decisions of the policy, the backbone, guidance and the solver.
#pragma once

#include "cache/policy.h"
#include "models/backbone.h"
#include "runtime/denoise_hooks.h"
#include "runtime/kv_choice.h"
#include "runtime/noise.h"
#include "runtime/schedule.h"
#include "runtime/unipc.h"

namespace longtake {

struct DenoiseSettings {
  AttentionScheme attention = AttentionScheme::causal;
  KvChoice kv;                      // what is kept of finished chunks; compression needs causal attention
  double guidance = 6.0;
  int prefix_noise = 0;             // timestep given to prefix frames; they are mixed with prefix_noise/1000 noise
  bool noise_every_row = false;     // draw prefix noise in rows that do not use it (a reference's generator state)
  // The reference keeps the first sample of a frame as a view of the latents, which it then overwrites, so that the second
  // step's corrector starts from the wrong sample. True repeats that (DF pipeline, SkyReels-V2 and MotionCache alike).
  bool overwritten_first_sample = false;
  int branches() const { return guidance > 1.0 ? 2 : 1; }
};

// Tokens of which the loop makes room for keys and values: all of the window, or with compression what is kept of finished chunks and those
// that are at work at once, in the row where that is most.
int64_t most_kv_tokens(const KvChoice& kv, const WindowGeometry& geometry, const Schedule& schedule);

// Of the states of a window. latents [C, F, h, w]: any of its chunks.
StateLayout state_layout(const Backbone& backbone, const at::Tensor& latents, int branches);

// Denoises `latents` [C, F, h, w] float32, whose first chunks are the clean prefix where the schedule says so and noise
// elsewhere, and returns the clean latents. `resume` is a state that RowEnd::state gave in the same window of an equal run: the
// window goes on behind that row, to the same bits. Errors: numerical (non-finite velocity), bad_file (a state of another run).
at::Tensor denoise_window(const Backbone& backbone, CachePolicy& policy, const Schedule& schedule, const UniPc& solver,
                          const DenoiseSettings& settings, int window, at::Tensor latents, NoiseSource& noise,
                          RunStats& stats, const DenoiseHooks& hooks = {}, const State* resume = nullptr);

}  // namespace longtake
