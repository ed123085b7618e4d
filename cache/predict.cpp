#include "cache/predict.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "base/error.h"

namespace longtake {

std::vector<std::pair<std::string, PredictSettings>> PredictSettings::presets() {
  std::vector<std::pair<std::string, PredictSettings>> presets;
  for (const auto& [name, motion] : MotionCacheSettings::presets()) presets.push_back({name, PredictSettings{.motion = motion}});
  return presets;
}

std::vector<SettingKey> PredictSettings::keys() {
  std::vector<SettingKey> keys{
      number_key("clip", clip, 0, 100, "a prediction moves a residual by at most this many times its last measured change"),
      whole_key("limit", limit, 1, 1000, "predictions of a token in a row before it is computed")};
  for (SettingKey& key : motion.keys()) keys.push_back(std::move(key));
  return keys;
}

Predict::Predict(const PredictSettings& settings, std::vector<double> distance, int branches)
    : settings_(settings), distance_(std::move(distance)), motion_(settings.motion, distance_, branches) {}

void Predict::begin_window(int window) {
  motion_.begin_window(window);
  predicted_.clear();
}

std::vector<Decision> Predict::decide(const StepContext& context) {
  std::vector<Decision> decisions = motion_.decide(context);
  if (context.prefix) return decisions;
  for (size_t b = 0; b < decisions.size(); ++b) {
    decisions[b].rest = Rest::predict;
    decisions[b].clip = settings_.clip;
    limit(context, static_cast<int>(b), decisions[b]);
    // With one choice for all branches their counts are the same, and so is what is added: as one set, rows see that it is.
    if (b > 0 && settings_.motion.shared_mask) decisions[b].tokens = decisions[0].tokens;
  }
  return decisions;
}

void Predict::limit(const StepContext& context, int branch, Decision& decision) {
  at::Tensor& predicted = predicted_[{context.chunk, branch}];
  // The device is known once a hidden state was seen: a chunk's first counter may lie elsewhere.
  predicted = predicted.defined() ? predicted.to(device_)
                                  : at::zeros({context.frames, context.plane}, at::TensorOptions().dtype(at::kInt).device(device_));
  at::Tensor chosen = decision.tokens.mask(context.frames, context.plane, device_);
  at::Tensor over = (predicted >= settings_.limit).logical_and(chosen.logical_not());
  if (settings_.motion.vote) over = over.any(0, /*keepdim=*/true).expand({context.frames, context.plane});
  if (over.any().item<bool>()) {
    chosen = chosen.logical_or(over);
    decision.tokens = TokenSet::from_mask(chosen);
    motion_.recomputed(context, branch, over);
  }
  predicted = at::where(chosen, at::zeros_like(predicted), predicted + 1);
}

void Predict::observe(const StepContext& context, int branch, const at::Tensor& hidden) {
  device_ = hidden.device();
  motion_.observe(context, branch, hidden);
}

void Predict::save(State& state) const {
  motion_.save(state);
  std::vector<int64_t> keys;
  for (const auto& [key, counts] : predicted_) {
    keys.insert(keys.end(), {key.first, key.second});
    state.put(fmt::format("policy/predicted/{}/{}", key.first, key.second), counts);
  }
  state.put_integers("policy/predicted", keys);
}

void Predict::load(const State& state, const StateLayout& layout) {
  motion_.load(state, layout);
  device_ = layout.device;
  predicted_.clear();
  for (const auto& [chunk, branch] : layout.chunk_branches(state, "policy/predicted"))
    predicted_[{chunk, branch}] = layout.by_token(state, fmt::format("policy/predicted/{}/{}", chunk, branch), chunk, at::kInt);
}

std::string Predict::preview(int steps) const {
  Predict policy(settings_, distance_, 1);
  std::string out;
  for (int s = 0; s < steps; ++s) {
    const bool forced = s <= settings_.motion.warmup || (settings_.motion.last_step && s == steps - 1);
    if (!forced && policy.motion_.per_token(0, 0))
      out += 'T';
    else
      out += policy.decide({.step = s, .steps = steps, .frames = 1, .plane = 1})[0].tokens.is_none() ? 'P' : 'F';
  }
  return out;
}

}  // namespace longtake
