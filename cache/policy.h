// What decides, for each chunk and step, which tokens are computed, and whether the others reuse their cached residual or
// have it predicted.
//
// One policy object a run; its state is keyed by (chunk, branch). The loop announces each row, shows the inputs of its chunks, asks once
// per chunk and step for the decisions of all branches (so that a policy may share one mask between them), merges what was computed, and
// shows the complete hidden states to the policy.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache/state_layout.h"
#include "cache/token_set.h"

namespace longtake {

enum class AttentionScheme {
  window,  // upstream SkyReels-V2: all chunks of the window in every row, each attending to all
  causal   // a chunk runs only in the rows that update it and attends to the chunks up to its own
};

// One row of the schedule: what the model is told about each chunk of the window.
struct RowContext {
  struct Chunk {
    double timestep = 0;  // SkyReels-V2: 999 (noise) ... 0; MAGI-1: 0 (noise) ... 1
    int64_t frames = 0;   // latent frames
    bool update = false;  // the solver moves it in this row
  };
  int window = 0;
  int row = 0;
  int rows = 0;
  std::vector<Chunk> chunks;
};

// One chunk in one row.
struct StepContext {
  int window = 0;
  int chunk = 0;
  int step = 0;           // updates this chunk has had in this window, 0 ... steps-1
  int steps = 0;
  int64_t frames = 0;     // latent frames of the chunk
  int64_t plane = 0;      // tokens of one latent frame
  bool prefix = false;    // a finished chunk of the previous window, computed once as context
};

enum class Phase { full, chunk, token };  // forced full computation, whole-chunk decisions, per-token decisions
const char* name_of(Phase phase);

// What becomes of the tokens that are not recomputed.
enum class Rest {
  reuse,   // their last computed residual
  predict  // the line through their last two computed residuals, at the present noise level (residual.h)
};

struct Decision {
  TokenSet tokens = TokenSet::all();  // recomputed
  Phase phase = Phase::full;
  Rest rest = Rest::reuse;
  // Bound of a prediction: it moves a residual by at most this many times its last measured change.
  double clip = 1;
  // How far the policy measured this step from the one before it; 0 where it measures nothing.
  double distance = 0;
};

class CachePolicy {
 public:
  virtual ~CachePolicy() = default;

  virtual void begin_window(int /*window*/) {}
  // Before the decisions of a row's chunks, rows ascending.
  virtual void begin_row(const RowContext& /*row*/) {}

  // What the transformer would be given of a chunk in this row: embedded [frames, plane, dim]. For every chunk that decide() will be asked
  // about, chunks ascending, between begin_row() and the first decision.
  virtual void input(const StepContext& /*context*/, const at::Tensor& /*embedded*/) {}

  // One decision per branch, called once for each step of each chunk, steps in ascending order.
  virtual std::vector<Decision> decide(const StepContext& context) = 0;

  // Whether changed() is of use to the policy.
  virtual bool wants_change() const { return false; }
  // moved [frames, plane] float32: how far the residual R of each token that was recomputed lies from the R' that the decision's `rest`
  // would have put in its place, |R - R'|_2 over the mean |.|_2 of the chunk's latest residuals; 0 for the others. Not called for a
  // chunk's first residual. Called after the row, before observe().
  virtual void changed(const StepContext& /*context*/, int /*branch*/, const at::Tensor& /*moved*/) {}

  // hidden [frames, plane, dim]: the chunk's complete last hidden state in this branch, cached tokens included (MAGI-1: its latents by
  // patch, see runtime/magi_denoise.h). Called after the row, chunks ascending.
  virtual void observe(const StepContext& /*context*/, int /*branch*/, const at::Tensor& /*hidden*/) {}

  // How many computed residuals of a token must be kept: none, one to reuse, two to predict.
  virtual int residuals() const = 0;

  // Everything that later decisions depend on, under names that begin with "policy/". load() comes after begin_window() of the window
  // that goes on. Errors: bad_file for entries that do not fit the layout, or each other.
  virtual void save(State& /*state*/) const {}
  virtual void load(const State& /*state*/, const StateLayout& /*layout*/) {}

  // What is known before the run: per step 'F' full, 'R' reuse of the chunk, 'P' prediction of the chunk, 'T' decided per token when the
  // time comes, '?' decided for a chunk or a whole row when the time comes.
  virtual std::string preview(int steps) const = 0;
};

// Everything is recomputed: the policies `none` and `causal`.
class RecomputeAll final : public CachePolicy {
 public:
  explicit RecomputeAll(int branches) : branches_(branches) {}
  std::vector<Decision> decide(const StepContext&) override { return std::vector<Decision>(branches_); }
  int residuals() const override { return 0; }
  std::string preview(int steps) const override { return std::string(steps, 'F'); }

 private:
  int branches_;
};

}  // namespace longtake
