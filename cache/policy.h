// What decides, for each chunk and step, which tokens are computed and which reuse their cached residual.
//
// One policy object a run; its state is keyed by (chunk, branch). The loop asks once per chunk and step for the decisions of
// all branches (so that a policy may share one mask between them), merges what was computed, and shows the complete hidden
// states to the policy.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache/state.h"
#include "cache/token_set.h"

namespace longtake {

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

struct Decision {
  TokenSet tokens = TokenSet::all();  // recomputed; all other tokens of the chunk reuse their residual
  Phase phase = Phase::full;
};

class CachePolicy {
 public:
  virtual ~CachePolicy() = default;

  virtual void begin_window(int /*window*/) {}

  // One decision per branch, called once for each step of each chunk, steps in ascending order.
  virtual std::vector<Decision> decide(const StepContext& context) = 0;

  // hidden [frames, plane, dim]: the chunk's complete last hidden state in this branch, cached tokens included. Called after the
  // row, chunks ascending.
  virtual void observe(const StepContext& /*context*/, int /*branch*/, const at::Tensor& /*hidden*/) {}

  // Whether hidden states must be kept as residuals at all.
  virtual bool reuses() const { return true; }

  // Whether save() and load() carry everything that decisions depend on. A policy that cannot be resumed must start
  // every window afresh in begin_window(): its runs are then resumed at the borders of windows only.
  virtual bool resumable() const { return false; }
  // Names begin with "policy/". load() comes after begin_window() of the window that goes on.
  virtual void save(State& /*state*/) const {}
  virtual void load(const State& /*state*/, const at::Device& /*device*/) {}

  // What is known before the run: per step 'F' full, 'R' reuse of the chunk, 'T' decided per token when the time comes.
  virtual std::string preview(int steps) const { return std::string(steps, 'F'); }
};

// Everything is recomputed: the policies `none` and `causal`.
class RecomputeAll final : public CachePolicy {
 public:
  explicit RecomputeAll(int branches) : branches_(branches) {}
  std::vector<Decision> decide(const StepContext&) override { return std::vector<Decision>(branches_); }
  bool reuses() const override { return false; }
  bool resumable() const override { return true; }

 private:
  int branches_;
};

}  // namespace longtake
