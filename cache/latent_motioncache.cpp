#include "cache/latent_motioncache.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/amin.h>
#include <ATen/ops/full.h>
#include <ATen/ops/kthvalue.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>

#include "base/error.h"
#include "cache/latent_base.h"

namespace longtake {
namespace {

TokenSet set_of(const StepContext& context, const at::Tensor& mask) {
  TokenSet set = TokenSet::from_mask(mask);
  return set.count(context.frames, context.plane) == context.frames * context.plane ? TokenSet::all() : set;
}

}  // namespace

std::vector<std::pair<std::string, LatentMotionCacheSettings>> LatentMotionCacheSettings::presets() {
  LatentMotionCacheSettings fast;
  fast.threshold = fast.token_threshold = 0.015;
  return {{"slow", {}}, {"fast", fast}};
}

std::vector<SettingKey> LatentMotionCacheSettings::keys() {
  return {base_key(extras),
          number_key("threshold", threshold, 0, 1e6, "a chunk is recomputed when its accumulated change reaches this"),
          number_key("token_threshold", token_threshold, 0, 1e6, "a token is recomputed when its accumulated change reaches this"),
          whole_key("warmup", warmup, 0, 1000, "last of the first steps that are always computed, counted from 0"),
          whole_key("chunk_steps", chunk_steps, 0, 1000, "steps behind them that decide for whole chunks, before decisions become per token"),
          toggle_key("tokens", tokens, "decide per token after that"),
          number_key("floor", floor, 0, 1, "weight of a token that does not move, against 1 for the one that moves most"),
          number_key("power", power, 0, 100, "of a frame's motion, scaled to 0 ... 1, before it becomes a weight"),
          toggle_key("own_distance", own_distance, "tokens add their own change to their accumulators, not their chunk's"),
          toggle_key("first_weights", first_weights, "weights stay as they are after a chunk's first step"),
          number_key("reuse_first", reuse_first, 0, 1, "largest share of tokens that the first step per token reuses"),
          number_key("reuse_last", reuse_last, 0, 1, "what that share falls to over as many steps as a chunk has"),
          toggle_key("predict", predict, "what is not computed is predicted from its last two computed values, not reused"),
          number_key("clip", clip, 0, 100, "a prediction moves a value by at most this many times its last measured change"),
          share_key("vote", vote, vote_share, "a spatial column is recomputed in all frames when more than this share of them is"),
          toggle_key("carry", carry, "tokens begin with what their chunk has gathered"),
          toggle_key("last_step", last_step, "the last step is always computed")};
}

std::vector<std::pair<std::string, LatentFlowCacheSettings>> LatentFlowCacheSettings::presets() {
  LatentFlowCacheSettings fast;
  fast.threshold = 0.015;
  return {{"slow", {}}, {"fast", fast}};
}

std::vector<SettingKey> LatentFlowCacheSettings::keys() {
  return {base_key(extras),
          number_key("threshold", threshold, 0, 1e6, "a chunk is recomputed when its accumulated change reaches this"),
          whole_key("warmup", warmup, 0, 1000, "last of the first steps that are always computed, counted from 0"),
          toggle_key("last_step", last_step, "the last step is always computed")};
}

LatentMotionCacheSettings LatentFlowCacheSettings::motioncache() const {
  LatentMotionCacheSettings s;
  s.extras = extras;
  s.threshold = threshold;
  s.warmup = warmup;
  s.last_step = last_step;
  s.tokens = false;
  return s;
}

void LatentMotionCache::begin_window(int) {
  chunks_.clear();
  inputs_.forget();
  motion_.forget();
}

void LatentMotionCache::begin_row(const RowContext& row) {
  inputs_.begin_row(row);
  changes_.clear();
  last_row_ = row.row == row.rows - 1;
  // What is finished decides no more; the last frame of the chunk before is the motion map's.
  std::erase_if(chunks_, [&](const auto& c) { return !row.chunks.at(c.first).update; });
}

void LatentMotionCache::input(const StepContext& context, const at::Tensor& embedded) {
  changes_[context.chunk] = inputs_.measure(context.chunk, embedded);
}

std::vector<Decision> LatentMotionCache::decide(const StepContext& context) {
  Decision d;
  ChunkState& chunk = chunks_[context.chunk];
  const InputChange::Change& change = changes_[context.chunk];
  if (last_row_ && !settings_.decide_last_row) {
    if (chunk.computed.defined()) d = {.tokens = set_of(context, chunk.computed), .phase = Phase::token};
    return {d};
  }
  if (context.step <= settings_.warmup || !change.defined() || (settings_.last_step && context.step == context.steps - 1)) {
    chunk.gathered = 0;
    return {d};
  }
  d.distance = change.of_chunk();
  if (settings_.predict) d.rest = Rest::predict;
  d.clip = settings_.clip;
  if (per_token(context.step)) {
    d.phase = Phase::token;
    chunk.computed = tokens_to_compute(context, chunk, change);
    d.tokens = set_of(context, chunk.computed);
    return {d};
  }
  d.phase = Phase::chunk;
  chunk.gathered += d.distance;
  if (chunk.gathered < settings_.threshold)
    d.tokens = TokenSet::none();
  else
    chunk.gathered = 0;
  return {d};
}

at::Tensor LatentMotionCache::tokens_to_compute(const StepContext& context, ChunkState& chunk, const InputChange::Change& change) const {
  if (!chunk.by_token.defined())
    chunk.by_token = at::full({context.frames, context.plane}, settings_.carry ? chunk.gathered : 0, change.moved.options());
  chunk.by_token = chunk.by_token +
                   (settings_.own_distance ? chunk.weight * change.of_tokens() : chunk.weight * change.of_chunk());
  at::Tensor compute = limited(context, chunk.by_token, chunk.by_token >= settings_.token_threshold);
  chunk.by_token = at::where(compute, at::zeros_like(chunk.by_token), chunk.by_token);
  if (settings_.vote) {
    const at::Tensor frames = compute.sum(at::IntArrayRef({0}), /*keepdim=*/true);
    compute = compute.logical_or(frames > settings_.vote_share * static_cast<double>(context.frames));
  }
  return compute;
}

// Where more tokens could be reused than may be, only those that have gathered least are; equals are treated alike.
at::Tensor LatentMotionCache::limited(const StepContext& context, const at::Tensor& gathered, const at::Tensor& need) const {
  const double passed = context.step - (settings_.warmup + settings_.chunk_steps + 1);
  const double share = settings_.reuse_first + (settings_.reuse_last - settings_.reuse_first) * passed / context.steps;
  const int64_t most = std::llround(share * static_cast<double>(gathered.numel()));
  if (most >= gathered.numel()) return need;
  if (most <= 0) return need.logical_or(gathered >= 0);
  return need.logical_or(gathered > std::get<0>(at::kthvalue(gathered.flatten(), most)));
}

void LatentMotionCache::observe(const StepContext& context, int branch, const at::Tensor& latents) {
  if (context.prefix) {
    motion_.remember(context, branch, latents);
    return;
  }
  const at::Tensor measured = weights(context, latents);
  ChunkState& chunk = chunks_[context.chunk];
  if (!settings_.first_weights || !chunk.weight.defined()) chunk.weight = measured;
}

at::Tensor LatentMotionCache::weights(const StepContext& context, const at::Tensor& latents) {
  const at::Tensor motion = motion_.measure(context, 0, latents);
  const at::Tensor low = at::amin(motion, 1, true), high = at::amax(motion, 1, true), span = high - low;
  const at::Tensor scaled = at::pow((motion - low) / span, settings_.power) * (1 - settings_.floor) + settings_.floor;
  const at::Tensor weight = at::where(span == 0, at::ones_like(scaled), scaled);
  if (context.chunk == 0 && !settings_.compared_first_frame) weight[0].fill_(1);
  return weight;
}

std::string LatentMotionCache::preview(int steps) const {
  std::string out;
  for (int s = 0; s < steps; ++s) {
    const bool forced = s <= settings_.warmup || (settings_.last_step && s == steps - 1);
    out += forced ? 'F' : per_token(s) ? 'T' : '?';
  }
  return out;
}

void LatentMotionCache::save(State& state) const {
  std::vector<int64_t> chunks;
  std::vector<double> gathered;
  for (const auto& [id, chunk] : chunks_) {
    chunks.push_back(id);
    gathered.push_back(chunk.gathered);
    state.put(fmt::format("policy/by_token/{}", id), chunk.by_token);
    state.put(fmt::format("policy/weight/{}", id), chunk.weight);
    state.put(fmt::format("policy/computed/{}", id), chunk.computed);
  }
  state.put_integers("policy/chunks", chunks);
  state.put_numbers("policy/gathered", gathered);
  inputs_.save(state);
  motion_.save(state);
}

void LatentMotionCache::load(const State& state, const StateLayout& layout) {
  chunks_.clear();
  const auto chunks = StateLayout::chunks(state, "policy/chunks");
  const auto gathered = state.numbers("policy/gathered", chunks.size());
  for (size_t i = 0; i < chunks.size(); ++i) {
    const auto optional = [&](const std::string& name, at::ScalarType dtype) {
      return state.contains(name) ? layout.by_token(state, name, chunks[i], dtype) : at::Tensor();
    };
    chunks_[chunks[i]] = {gathered[i], optional(fmt::format("policy/by_token/{}", chunks[i]), at::kFloat),
                          layout.by_token(state, fmt::format("policy/weight/{}", chunks[i]), chunks[i]),
                          optional(fmt::format("policy/computed/{}", chunks[i]), at::kBool)};
  }
  inputs_.load(state, layout);
  motion_.load(state, layout);
}

}  // namespace longtake
