#include "cache/driftcache.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include "base/error.h"

namespace longtake {

std::vector<std::pair<std::string, DriftCacheSettings>> DriftCacheSettings::presets() {
  return {{"slow", {}}, {"fast", {.threshold = 0.1}}};
}

std::vector<SettingKey> DriftCacheSettings::keys() {
  return {number_key("threshold", threshold, 0, 1e6, "a token is recomputed when it has drifted by this share of the mean residual"),
          whole_key("warmup", warmup, 1, 1000, "the last of the first steps that are always computed, counted from 0"),
          choice_key<DriftUnit>("unit", unit, {{"chunk", DriftUnit::chunk}, {"column", DriftUnit::column}, {"token", DriftUnit::token}},
                                "what is recomputed together, by its mean drift: a column is one place in all frames of the chunk"),
          number_key("min_ratio", min_ratio, 0, 1, "columns and tokens: with a smaller share to recompute, none is"),
          toggle_key("last_step", last_step, "the last step is always computed"),
          choice_key<Rest>("rest", rest, {{"predict", Rest::predict}, {"reuse", Rest::reuse}},
                           "what becomes of the tokens that are not recomputed"),
          number_key("clip", clip, 0, 100, "predict: it moves a residual by at most this many times its last measured change")};
}

bool DriftCache::forced(const StepContext& context) const {
  return context.step <= settings_.warmup || (settings_.last_step && context.step == context.steps - 1);
}

at::Tensor DriftCache::grown(const at::Tensor& since) const { return settings_.rest == Rest::predict ? since * since : since; }

std::vector<Decision> DriftCache::decide(const StepContext& context) {
  std::vector<Decision> decisions(branches_, {.rest = settings_.rest, .clip = settings_.clip});
  if (context.prefix) return decisions;
  const double distance = distance_.at(static_cast<size_t>(context.step));
  at::Tensor drift;
  for (int b = 0; b < branches_; ++b) {
    Tokens& tokens = tokens_[{context.chunk, b}];
    tokens.chosen = at::Tensor();
    if (!tokens.since.defined()) continue;
    tokens.since = tokens.since + distance;
    if (!tokens.rate.defined()) continue;
    const at::Tensor own = tokens.rate * grown(tokens.since);
    drift = drift.defined() ? at::maximum(drift, own) : own;
  }
  if (forced(context) || !drift.defined()) return decisions;
  if (settings_.unit == DriftUnit::column) drift = drift.mean(0, /*keepdim=*/true).expand({context.frames, context.plane});
  if (settings_.unit == DriftUnit::chunk) drift = drift.mean().expand({context.frames, context.plane});
  at::Tensor chosen = drift >= settings_.threshold;
  if (const auto count = chosen.sum().item<int64_t>();
      static_cast<double>(count) < settings_.min_ratio * static_cast<double>(context.frames * context.plane))
    chosen = at::zeros_like(chosen);
  const TokenSet tokens = TokenSet::from_mask(chosen);
  for (int b = 0; b < branches_; ++b) {
    decisions[b].tokens = tokens;
    decisions[b].phase = Phase::token;
    decisions[b].distance = distance;
    tokens_[{context.chunk, b}].chosen = chosen;
  }
  return decisions;
}

void DriftCache::changed(const StepContext& context, int branch, const at::Tensor& moved) {
  Tokens& tokens = tokens_[{context.chunk, branch}];
  if (!tokens.since.defined()) tokens.since = at::full_like(moved, distance_.at(static_cast<size_t>(context.step)));
  const at::Tensor chosen = tokens.chosen.defined() ? tokens.chosen : at::full_like(moved, true, at::kBool);
  const at::Tensor old = tokens.rate.defined() ? tokens.rate : at::zeros_like(moved);
  // Steps that have no distance tell nothing of the rate.
  tokens.rate = at::where(chosen.logical_and(tokens.since > 0), moved / grown(tokens.since), old);
  tokens.since = at::where(chosen, at::zeros_like(tokens.since), tokens.since);
}

std::string DriftCache::preview(int steps) const {
  std::string out;
  for (int s = 0; s < steps; ++s) out += forced({.step = s, .steps = steps}) ? 'F' : 'T';
  return out;
}

void DriftCache::save(State& state) const {
  std::vector<int64_t> keys;
  for (const auto& [key, tokens] : tokens_) {
    keys.insert(keys.end(), {key.first, key.second});
    state.put(fmt::format("policy/rate/{}/{}", key.first, key.second), tokens.rate);
    state.put(fmt::format("policy/since/{}/{}", key.first, key.second), tokens.since);
  }
  state.put_integers("policy/chunks", keys);
}

void DriftCache::load(const State& state, const StateLayout& layout) {
  tokens_.clear();
  for (const auto& key : layout.chunk_branches(state, "policy/chunks")) {
    const auto optional = [&](const char* what) {
      const std::string name = fmt::format("policy/{}/{}/{}", what, key.first, key.second);
      return state.contains(name) ? layout.by_token(state, name, key.first) : at::Tensor();
    };
    tokens_[key] = {optional("rate"), optional("since"), {}};
  }
}

}  // namespace longtake
