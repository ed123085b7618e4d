#include "cache/flowcache.h"

#include "base/error.h"

namespace longtake {

std::vector<std::pair<std::string, FlowCacheSettings>> FlowCacheSettings::presets() {
  FlowCacheSettings fast;
  fast.threshold = 0.15;
  return {{"slow", {}}, {"fast", fast}};
}

std::vector<SettingKey> FlowCacheSettings::keys() {
  return {number_key("threshold", threshold, 0, 1e6, "a chunk is recomputed when its accumulated change reaches this"),
          whole_key("warmup", warmup, 0, 1000, "last of the first steps that are always computed, counted from 0"),
          toggle_key("last_step", last_step, "the last step is always computed")};
}

std::vector<Decision> FlowCache::decide(const StepContext& context) {
  Decision decision;
  if (context.prefix) return std::vector<Decision>(branches_, decision);
  LONGTAKE_CHECK(context.step < static_cast<int>(distance_.size()), "expected a step below {}, found {}", distance_.size(),
                 context.step);
  decision.distance = distance_[context.step];
  const bool forced = context.step <= settings_.warmup || (settings_.last_step && context.step == context.steps - 1);
  if (!forced) {
    float& accumulated = accumulated_[context.chunk];
    accumulated += static_cast<float>(decision.distance);
    decision.phase = Phase::chunk;
    if (accumulated >= static_cast<float>(settings_.threshold))
      accumulated = 0;
    else
      decision.tokens = TokenSet::none();
  }
  return std::vector<Decision>(branches_, decision);
}

void FlowCache::save(State& state) const {
  std::vector<int64_t> chunks;
  std::vector<double> values;
  for (const auto& [chunk, value] : accumulated_) chunks.push_back(chunk), values.push_back(value);
  state.put_integers("policy/chunks", chunks);
  state.put_numbers("policy/accumulated", values);
}

void FlowCache::load(const State& state, const StateLayout&) {
  accumulated_.clear();
  const auto chunks = StateLayout::chunks(state, "policy/chunks");
  const auto values = state.numbers("policy/accumulated", chunks.size());
  for (size_t i = 0; i < chunks.size(); ++i) accumulated_[chunks[i]] = static_cast<float>(values[i]);
}

std::string FlowCache::preview(int steps) const {
  FlowCache policy(settings_, distance_, 1);
  std::string out;
  for (int s = 0; s < steps; ++s)
    out += policy.decide({.step = s, .steps = steps, .frames = 1, .plane = 1})[0].tokens.is_none() ? 'R' : 'F';
  return out;
}

}  // namespace longtake
