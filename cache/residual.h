// Cached residuals: last hidden state minus embedded input, per chunk and branch. They let a chunk, or some of its tokens, skip
// the transformer: hidden = embedded input + residual.
//
// A residual is reused as it was last computed, or predicted along the line through its last two computed values in the noise level
// (SCOPE, arXiv 2604.02979; spec other_policies.md): with R1, R2 computed at levels s1 > s2, at level s
//   R = R2 + f (R2 - R1),  f = (s - s2) / (s2 - s1), at most `clip`.
// Tokens of one chunk may have been computed at different levels, so levels are kept per token. A token that was computed only
// once has no line and is reused.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>

#include "cache/policy.h"
#include "cache/row_ops.h"
#include "cache/state_layout.h"

namespace longtake {

class ResidualCache {
 public:
  // kept: computed residuals per token, as the policy asks (1 to reuse, 2 to predict).
  explicit ResidualCache(int kept) : kept_(kept) {}

  // The complete hidden state [tokens, dim] of a chunk at noise level `level`, from its embedded input and the freshly computed
  // rows `fresh` [count of the decision's tokens, dim] (undefined where it recomputes none); stores the new residual rows.
  // `moved`, where wanted, becomes CachePolicy::changed's [tokens], undefined where there was no residual before.
  // Errors: internal where a chunk has nothing to reuse, or only one residual is kept and a prediction is asked for.
  at::Tensor merge(int chunk, int branch, const at::Tensor& embedded, const Decision& decision, const at::Tensor& fresh,
                   int64_t frames, int64_t plane, double level, at::Tensor* moved = nullptr);

  void forget(int chunk) { std::erase_if(history_, [chunk](const auto& h) { return h.first.first == chunk; }); }

  // "residual/CHUNK/BRANCH" and the list of them.
  void save(State& state) const;
  void load(const State& state, const StateLayout& layout);

 private:
  int kept_;
  std::map<std::pair<int, int>, CachedRows> history_;  // by chunk and branch; `before` is undefined until a token was computed twice
};

}  // namespace longtake
