// The denoising loop of one window: rows of the schedule, decisions of the policy, the backbone, guidance and the solver.
#pragma once

#include <functional>

#include "cache/policy.h"
#include "models/backbone.h"
#include "runtime/kv_choice.h"
#include "runtime/noise.h"
#include "runtime/run_stats.h"
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

// One decision as it was taken, for progress, plans, traces and tests.
struct DecisionRecord {
  int window, row, chunk, branch, step;
  Decision decision;
  int64_t recomputed, tokens;
  // False for a chunk that the row only shows to others: the prefix, and with full attention chunks that wait or are finished.
  bool update = true;
  int64_t frames = 0, plane = 0;  // of the chunk
};

// The place between two rows, where a run can be left and taken up again.
struct RowEnd {
  int row, rows;                   // the row that ended
  std::vector<int> finished;       // chunks that it brought to their last step, ascending
  const at::Tensor& latents;       // [C, F, h, w] of the window as they stand
  std::function<State()> state;    // all that denoise_window needs to go on behind this row
  const RunStats& stats;           // of the run up to here
};

struct DenoiseHooks {
  std::function<void(const DecisionRecord&)> on_decision;
  // Each chunk that the policy observes, before it does: complete last hidden state and embedded input, both [tokens, dim].
  std::function<void(const StepContext&, int branch, const at::Tensor& hidden, const at::Tensor& embedded)> on_hidden;
  std::function<void(int row, int rows)> on_row;        // after each row; may throw to stop the run
  std::function<void(const RowEnd&)> on_row_end;        // after on_row; may throw to stop the run
};

// Denoises `latents` [C, F, h, w] float32, whose first chunks are the clean prefix where the schedule says so and noise
// elsewhere, and returns the clean latents. `resume` is a state that RowEnd::state gave in the same window of an equal run: the
// window goes on behind that row, to the same bits. Errors: numerical (non-finite velocity), bad_file (a state of another run).
at::Tensor denoise_window(const Backbone& backbone, CachePolicy& policy, const Schedule& schedule, const UniPc& solver,
                          const DenoiseSettings& settings, int window, at::Tensor latents, NoiseSource& noise,
                          RunStats& stats, const DenoiseHooks& hooks = {}, const State* resume = nullptr);

}  // namespace longtake
