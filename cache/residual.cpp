#include "cache/residual.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>

#include "base/error.h"

namespace longtake {
namespace {

at::Tensor mean_size(const at::Tensor& residual) {
  return at::linalg_vector_norm(residual, 2, at::IntArrayRef({1}), /*keepdim=*/false, at::kFloat).mean() + 1e-8;
}

// [tokens] float32.
at::Tensor distance(const at::Tensor& a, const at::Tensor& b) {
  return at::linalg_vector_norm(a.to(at::kFloat) - b.to(at::kFloat), 2, at::IntArrayRef({1}));
}

}  // namespace

at::Tensor ResidualCache::merge(int chunk, int branch, const at::Tensor& embedded, const Decision& decision, const at::Tensor& fresh,
                                int64_t frames, int64_t plane, double level, at::Tensor* moved) {
  LONGTAKE_CHECK(decision.rest == Rest::reuse || kept_ >= 2, "expected two residuals a token to predict from, found {} kept", kept_);
  const TokenSet& set = decision.tokens;
  CachedRows& cached = history_[{chunk, branch}];
  RowMerge rest{.predicts = decision.rest == Rest::predict && cached.before.defined(), .now = level, .clip = decision.clip};
  if (set.is_all()) {
    if (moved && cached.residual.defined()) *moved = distance(fresh, merge_rows(embedded, cached, rest)) / mean_size(cached.residual);
    if (kept_ >= 2) {
      cached.before = cached.residual;
      cached.before_level = cached.level;
      cached.level = at::full({frames * plane}, level, at::TensorOptions().dtype(at::kFloat).device(embedded.device()));
    }
    cached.residual = fresh - embedded;
    return fresh;
  }
  LONGTAKE_CHECK(cached.residual.defined(), "chunk {} has no residual to reuse: its first step must be computed", chunk);
  if (!set.is_none()) {
    rest.fresh = fresh;
    rest.rows = set.indices(frames, plane, embedded.device());
    if (kept_ >= 2 && !cached.before.defined()) {
      cached.before = cached.residual.clone();
      cached.before_level = cached.level.clone();
    }
  }
  const at::Tensor size = moved && !set.is_none() ? mean_size(cached.residual) : at::Tensor();
  const at::Tensor hidden = merge_rows(embedded, cached, rest, moved);
  if (size.defined()) *moved /= size;
  return hidden;
}

void ResidualCache::save(State& state) const {
  std::vector<int64_t> keys;
  for (const auto& [key, cached] : history_) {
    keys.insert(keys.end(), {key.first, key.second});
    const std::string name = fmt::format("residual/{}/{}", key.first, key.second);
    state.put(name, cached.residual);
    state.put(name + "/level", cached.level);
    state.put(name + "/before", cached.before);
    state.put(name + "/before_level", cached.before_level);
  }
  state.put_integers("residual/keys", keys);
}

void ResidualCache::load(const State& state, const StateLayout& layout) {
  history_.clear();
  for (const auto& key : layout.chunk_branches(state, "residual/keys")) {
    const std::string name = fmt::format("residual/{}/{}", key.first, key.second);
    const int64_t tokens = layout.frames_of(state, name, key.first) * layout.plane;
    const auto rows = [&](const std::string& entry) { return layout.get(state, entry, {tokens, layout.residual.width}, layout.residual.dtype); };
    const auto level = [&](const std::string& entry) { return layout.get(state, entry, {tokens}, at::kFloat); };
    CachedRows& cached = history_[key];
    cached.residual = rows(name);
    if (kept_ < 2) continue;
    cached.level = level(name + "/level");
    if (!state.contains(name + "/before")) continue;
    cached.before = rows(name + "/before");
    cached.before_level = level(name + "/before_level");
  }
}

}  // namespace longtake
