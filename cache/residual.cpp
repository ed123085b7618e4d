#include "cache/residual.h"

#include <ATen/TensorOperators.h>

#include "base/error.h"

namespace longtake {

at::Tensor ResidualCache::merge(int chunk, int branch, const at::Tensor& embedded, const TokenSet& set,
                                const at::Tensor& fresh, int64_t frames, int64_t plane) {
  at::Tensor& residual = residuals_[{chunk, branch}];
  if (set.is_all()) {
    residual = fresh - embedded;
    return fresh;
  }
  LONGTAKE_CHECK(residual.defined(), "chunk {} has no residual to reuse: its first step must be computed", chunk);
  at::Tensor hidden = embedded + residual;
  if (set.is_none()) return hidden;
  const at::Tensor rows = set.indices(frames, plane, embedded.device());
  hidden.index_copy_(0, rows, fresh);
  residual.index_copy_(0, rows, fresh - embedded.index_select(0, rows));
  return hidden;
}

void ResidualCache::save(State& state) const {
  std::vector<int64_t> keys;
  for (const auto& [key, residual] : residuals_) {
    keys.insert(keys.end(), {key.first, key.second});
    state.put(fmt::format("residual/{}/{}", key.first, key.second), residual);
  }
  state.put_integers("residual/keys", keys);
}

void ResidualCache::load(const State& state, const at::Device& device) {
  residuals_.clear();
  const std::vector<int64_t> keys = state.integers("residual/keys");
  if (keys.size() % 2 != 0) state.refuse("'residual/keys' should hold pairs");
  for (size_t i = 0; i < keys.size(); i += 2)
    residuals_[{static_cast<int>(keys[i]), static_cast<int>(keys[i + 1])}] =
        state.get(fmt::format("residual/{}/{}", keys[i], keys[i + 1]), 2).to(device);
}

}  // namespace longtake
