#include "cache/motioncache.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/amin.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"

namespace longtake {
namespace {

constexpr double kEps = 1e-8;

}  // namespace

std::vector<std::pair<std::string, MotionCacheSettings>> MotionCacheSettings::presets() {
  MotionCacheSettings fast;
  fast.threshold = 0.15;
  return {{"slow", {}}, {"fast", fast}};
}

std::vector<SettingKey> MotionCacheSettings::keys() {
  return {number_key("threshold", threshold, 0, 1e6, "a token is recomputed when its accumulated change reaches this"),
          whole_key("warmup", warmup, 0, 1000, "last of the first steps that are always computed, counted from 0"),
          whole_key("phase1", phase1, 0, 1000, "updates of whole chunks before decisions become per token"),
          number_key("floor", floor, 0, 1, "weight of a token that does not move, against 1 for the one that moves most"),
          share_key("vote", vote, vote_share, "a spatial column is recomputed when more than this share of its frames asks for it"),
          number_key("min_ratio", min_ratio, 0, 1, "with a smaller share of tokens to recompute, none is"),
          choice_key<WeightNorm>("norm", norm,
                                 {{"max_rescale", WeightNorm::max_rescale}, {"max", WeightNorm::max}, {"mean", WeightNorm::mean}},
                                 "how a frame's motion becomes weights"),
          toggle_key("shared_mask", shared_mask, "one choice of tokens for both guidance branches"),
          toggle_key("last_step", last_step, "the last step is always computed")};
}

MotionCache::MotionCache(const MotionCacheSettings& settings, std::vector<double> distance, int branches)
    : settings_(settings), distance_(std::move(distance)), branches_(branches) {}

void MotionCache::begin_window(int) {
  chunks_.clear();
  // The reference keeps these across windows and so compares with the wrong frame (spec 4, B3).
  if (settings_.fresh_reference) motion_.forget();
}

at::Tensor MotionCache::wanted(const StepContext& context, ChunkState& chunk, int branch) {
  BranchState& state = chunk.branch[branch];
  if (!state.accumulated.defined())
    state.accumulated =
        at::zeros({context.frames, context.plane}, at::TensorOptions().dtype(at::kFloat).device(device_));
  const double distance = distance_.at(context.step);
  state.accumulated = chunk.token_phase[branch] ? state.accumulated + state.weight * distance : state.accumulated + distance;
  return state.accumulated >= settings_.threshold;
}

// From the tokens that reached the threshold to those that are recomputed: the column vote, then the minimum share.
at::Tensor MotionCache::settle(const StepContext& context, const at::Tensor& need) const {
  at::Tensor chosen = need;
  if (settings_.vote)
    chosen = (at::mean(need.to(at::kFloat), 0, /*keepdim=*/true) > settings_.vote_share).expand({context.frames, context.plane});
  const int64_t count = chosen.sum().item<int64_t>();
  const double ratio = static_cast<double>(count) / static_cast<double>(context.frames * context.plane);
  return ratio < settings_.min_ratio ? at::zeros_like(chosen) : chosen;
}

std::vector<Decision> MotionCache::decide(const StepContext& context) {
  std::vector<Decision> decisions(branches_);
  if (context.prefix) return decisions;
  LONGTAKE_CHECK(context.step < static_cast<int>(distance_.size()), "expected a step below {}, found {}", distance_.size(),
                 context.step);
  ChunkState& chunk = chunks_[context.chunk];
  if (chunk.branch.empty()) {
    chunk.branch.resize(branches_);
    chunk.updates.assign(branches_, 0);
    chunk.token_phase.assign(branches_, false);
  }
  if (context.step <= settings_.warmup) {
    if (context.step == settings_.warmup) chunk.token_phase.assign(branches_, settings_.phase1 == 0);
    return decisions;
  }
  if (settings_.last_step && context.step == context.steps - 1) return decisions;

  std::vector<at::Tensor> chosen;
  for (int b = 0; b < branches_; ++b) chosen.push_back(wanted(context, chunk, b));
  if (settings_.shared_mask)
    for (int b = 1; b < branches_; ++b) chosen[0] = chosen[0].logical_or(chosen[b]);
  for (int b = 0; b < branches_; ++b) {
    if (b > 0 && settings_.shared_mask) {
      decisions[b] = decisions[0];
      chosen[b] = chosen[0];
    } else {
      chosen[b] = settle(context, chosen[b]);
      decisions[b].phase = chunk.token_phase[b] ? Phase::token : Phase::chunk;
      decisions[b].tokens = TokenSet::from_mask(chosen[b]);
      decisions[b].distance = distance_[context.step];
    }
    if (!decisions[b].tokens.is_none()) start_over(chunk, b, chosen[b]);
  }
  return decisions;
}

void MotionCache::start_over(ChunkState& chunk, int branch, const at::Tensor& mask) {
  at::Tensor& accumulated = chunk.branch[branch].accumulated;
  accumulated = at::where(mask, at::zeros_like(accumulated), accumulated);
  if (!chunk.token_phase[branch] && ++chunk.updates[branch] >= settings_.phase1) chunk.token_phase[branch] = true;
}

bool MotionCache::per_token(int chunk, int branch) const {
  const auto found = chunks_.find(chunk);
  return found != chunks_.end() && found->second.token_phase[branch];
}

void MotionCache::recomputed(const StepContext& context, int branch, const at::Tensor& mask) {
  start_over(chunks_.at(context.chunk), branch, mask);
}

void MotionCache::observe(const StepContext& context, int branch, const at::Tensor& hidden) {
  device_ = hidden.device();
  if (context.prefix) {
    if (settings_.fresh_reference) motion_.remember(context, branch, hidden);
    return;
  }
  ChunkState& chunk = chunks_.at(context.chunk);
  if (context.step < settings_.warmup || !chunk.token_phase[branch]) return;
  chunk.branch[branch].weight = motion_weight(context, branch, hidden);
}

at::Tensor MotionCache::motion_weight(const StepContext& context, int branch, const at::Tensor& hidden) {
  const at::Tensor m = motion_.measure(context, branch, hidden);
  const double alpha = settings_.floor;
  switch (settings_.norm) {
    case WeightNorm::max_rescale: {
      const at::Tensor low = at::amin(m, 1, true), high = at::amax(m, 1, true);
      return (m - low) / (high - low + kEps) * (1 - alpha) + alpha;
    }
    case WeightNorm::max: return m / (at::amax(m, 1, true) + kEps);
    case WeightNorm::mean: return m / (at::mean(m, 1, true) + kEps);
  }
  return m;
}

std::string MotionCache::preview(int steps) const {
  // The policy itself on a chunk of one token: until decisions are made per token they depend on nothing but the step.
  MotionCache policy(settings_, distance_, 1);
  std::string out;
  for (int s = 0; s < steps; ++s) {
    const bool forced = s <= settings_.warmup || (settings_.last_step && s == steps - 1);
    if (!forced && policy.per_token(0, 0))
      out += 'T';
    else
      out += policy.decide({.step = s, .steps = steps, .frames = 1, .plane = 1})[0].tokens.is_none() ? 'R' : 'F';
  }
  return out;
}

}  // namespace longtake
