#include "cache/residual.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "base/error.h"

namespace longtake {
namespace {

// [tokens] float32.
at::Tensor distance(const at::Tensor& a, const at::Tensor& b) {
  return at::linalg_vector_norm(a.to(at::kFloat) - b.to(at::kFloat), 2, at::IntArrayRef({1}));
}

at::Tensor mean_size(const at::Tensor& residual) {
  return at::linalg_vector_norm(residual, 2, at::IntArrayRef({1}), /*keepdim=*/false, at::kFloat).mean() + 1e-8;
}

}  // namespace

at::Tensor ResidualCache::rest(const History& history, const at::Tensor& embedded, const Decision& decision, double level) const {
  const Computed &latest = history.latest, &before = history.before;
  if (decision.rest == Rest::reuse || !before.residual.defined()) return embedded + latest.residual;
  const at::Tensor gap = latest.level - before.level;
  const at::Tensor ahead = (at::full({1}, level, gap.options()) - latest.level) / gap;
  const at::Tensor factor = at::where(gap == 0, at::zeros_like(gap), ahead).clamp(0, decision.clip).unsqueeze(1);
  const at::Tensor last = latest.residual.to(at::kFloat);
  const at::Tensor residual = last + (last - before.residual.to(at::kFloat)) * factor;
  return (embedded.to(at::kFloat) + residual).to(embedded.scalar_type());
}

at::Tensor ResidualCache::merge(int chunk, int branch, const at::Tensor& embedded, const Decision& decision, const at::Tensor& fresh,
                                int64_t frames, int64_t plane, double level, at::Tensor* moved) {
  LONGTAKE_CHECK(decision.rest == Rest::reuse || kept_ >= 2, "expected two residuals a token to predict from, found {} kept", kept_);
  const TokenSet& set = decision.tokens;
  History& history = history_[{chunk, branch}];
  Computed &latest = history.latest, &before = history.before;
  if (set.is_all()) {
    if (moved && latest.residual.defined()) *moved = distance(fresh, rest(history, embedded, decision, level)) / mean_size(latest.residual);
    if (kept_ >= 2) {
      before = latest;
      latest.level = at::full({frames * plane}, level, at::TensorOptions().dtype(at::kFloat).device(embedded.device()));
    }
    latest.residual = fresh - embedded;
    return fresh;
  }
  LONGTAKE_CHECK(latest.residual.defined(), "chunk {} has no residual to reuse: its first step must be computed", chunk);
  at::Tensor hidden = rest(history, embedded, decision, level);
  if (moved) *moved = at::zeros({frames * plane}, at::TensorOptions().dtype(at::kFloat).device(embedded.device()));
  if (set.is_none()) return hidden;
  const at::Tensor rows = set.indices(frames, plane, embedded.device());
  if (kept_ >= 2) {
    if (!before.residual.defined()) before = {latest.residual.clone(), latest.level.clone()};
    before.residual.index_copy_(0, rows, latest.residual.index_select(0, rows));
    before.level.index_copy_(0, rows, latest.level.index_select(0, rows));
    latest.level.index_fill_(0, rows, level);
  }
  if (moved) moved->index_copy_(0, rows, distance(fresh, hidden.index_select(0, rows)) / mean_size(latest.residual));
  hidden.index_copy_(0, rows, fresh);
  latest.residual.index_copy_(0, rows, fresh - embedded.index_select(0, rows));
  return hidden;
}

void ResidualCache::save(State& state) const {
  std::vector<int64_t> keys;
  for (const auto& [key, history] : history_) {
    keys.insert(keys.end(), {key.first, key.second});
    const std::string name = fmt::format("residual/{}/{}", key.first, key.second);
    state.put(name, history.latest.residual);
    state.put(name + "/level", history.latest.level);
    state.put(name + "/before", history.before.residual);
    state.put(name + "/before_level", history.before.level);
  }
  state.put_integers("residual/keys", keys);
}

void ResidualCache::load(const State& state, const at::Device& device) {
  history_.clear();
  const std::vector<int64_t> keys = state.integers("residual/keys");
  if (keys.size() % 2 != 0) state.refuse("'residual/keys' should hold pairs");
  for (size_t i = 0; i < keys.size(); i += 2) {
    const std::string name = fmt::format("residual/{}/{}", keys[i], keys[i + 1]);
    History& history = history_[{static_cast<int>(keys[i]), static_cast<int>(keys[i + 1])}];
    history.latest.residual = state.get(name, 2).to(device);
    const auto sizes = history.latest.residual.sizes();
    const auto level = [&](const std::string& entry) { return state.get(entry, {sizes[0]}, at::kFloat).to(device); };
    if (state.contains(name + "/level")) history.latest.level = level(name + "/level");
    if (!state.contains(name + "/before")) continue;
    history.before.residual = state.get(name + "/before", sizes, history.latest.residual.scalar_type()).to(device);
    history.before.level = level(name + "/before_level");
  }
}

}  // namespace longtake
