// Cached residuals: last hidden state minus embedded input, per chunk and branch. They let a chunk, or some of its tokens, skip
// the transformer: hidden = embedded input + residual.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>

#include "cache/state.h"
#include "cache/token_set.h"

namespace longtake {

class ResidualCache {
 public:
  void clear() { residuals_.clear(); }

  // The complete hidden state of a chunk [tokens, dim] from its embedded input and the freshly computed rows
  // `fresh` [count of set, dim] (undefined for the empty set); stores the new residual rows.
  at::Tensor merge(int chunk, int branch, const at::Tensor& embedded, const TokenSet& set, const at::Tensor& fresh,
                   int64_t frames, int64_t plane);

  // "residual/CHUNK/BRANCH" and the list of them.
  void save(State& state) const;
  void load(const State& state, const at::Device& device);

 private:
  std::map<std::pair<int, int>, at::Tensor> residuals_;
};

}  // namespace longtake
