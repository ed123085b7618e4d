// What a denoising loop says while it runs, whatever the model's family: decisions, hidden states, rows, and the places where a run can
// be left and taken up again.
#pragma once

#include <functional>
#include <vector>

#include "cache/policy.h"
#include "runtime/run_stats.h"

namespace longtake {

// One decision as it was taken, for progress, plans, traces and tests.
struct DecisionRecord {
  int window, row, chunk, branch, step;
  Decision decision;
  int64_t recomputed, tokens;
  // False for a chunk that the row only shows to others: the prefix, a finished chunk that runs for its keys, and with full attention
  // chunks that wait or are finished.
  bool update = true;
  int64_t frames = 0, plane = 0;  // of the chunk
};

// The place between two rows, where a run can be left and taken up again.
struct RowEnd {
  int row, rows;                   // the row that ended
  std::vector<int> finished;       // chunks that it brought to their last step, ascending
  const at::Tensor& latents;       // [C, F, h, w] of the window (MAGI-1: of the video) as they stand
  std::function<State()> state;    // all that the loop needs to go on behind this row
  const RunStats& stats;           // of the run up to here
};

struct DenoiseHooks {
  std::function<void(const DecisionRecord&)> on_decision;
  // Each chunk that the policy observes, before it does: complete last hidden state and embedded input, both [tokens, dim].
  // Not called for MAGI-1, where nothing completes a hidden state.
  std::function<void(const StepContext&, int branch, const at::Tensor& hidden, const at::Tensor& embedded)> on_hidden;
  std::function<void(int row, int rows)> on_row;        // after each row; may throw to stop the run
  std::function<void(const RowEnd&)> on_row_end;        // after on_row; may throw to stop the run
};

}  // namespace longtake
