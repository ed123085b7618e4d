#include "cache/plan_replay.h"

#include "base/error.h"

namespace longtake {
namespace {

Phase usual_phase(const PlanTokens& tokens) {
  switch (tokens.kind) {
    case PlanTokens::Kind::all: return Phase::full;
    case PlanTokens::Kind::none: return Phase::chunk;
    default: return Phase::token;
  }
}

}  // namespace

std::vector<Decision> PlanReplay::decide(const StepContext& context) {
  std::vector<Decision> decisions(static_cast<size_t>(branches_));
  if (context.prefix) return decisions;
  for (int b = 0; b < branches_; ++b) {
    const PlanEntry* entry = plan_.find(context.window, context.chunk, context.step, b);
    LONGTAKE_CHECK(entry != nullptr, "expected a plan that covers window {}, chunk {}, step {}", context.window, context.chunk, context.step);
    decisions[static_cast<size_t>(b)] = {.tokens = entry->tokens.set(context.window, context.chunk, context.step, context.plane),
                                         .phase = entry->phase.value_or(usual_phase(entry->tokens)),
                                         .rest = entry->rest,
                                         .clip = entry->clip,
                                         .distance = entry->distance.value_or(0)};
  }
  return decisions;
}

int PlanReplay::residuals() const {
  int needed = 0;
  for (const PlanEntry& entry : plan_.entries)
    if (entry.tokens.kind != PlanTokens::Kind::all) needed = std::max(needed, entry.rest == Rest::predict ? 2 : 1);
  return needed;
}

std::string PlanReplay::preview(int steps) const {
  const int chunk = plan_.geometry && !plan_.geometry->windows.empty() ? plan_.geometry->windows.front().prefix : 0;
  std::string out;
  for (int s = 0; s < steps; ++s) {
    const PlanEntry* entry = plan_.find(0, chunk, s, 0);
    if (entry == nullptr)
      out += '?';
    else if (entry->tokens.kind == PlanTokens::Kind::all)
      out += 'F';
    else if (entry->tokens.kind == PlanTokens::Kind::none)
      out += entry->rest == Rest::predict ? 'P' : 'R';
    else
      out += 'T';
  }
  return out;
}

void PlanRecorder::add(const StepContext& context, int branch, bool update, const Decision& decision) {
  plane_ = context.plane;
  steps_ = context.steps;
  branches_ = std::max(branches_, branch + 1);
  frames_[{context.window, context.chunk}] = context.frames;
  if (!update) return;
  const auto only = [](int i) { return PlanRange{i, i, 1}; };
  PlanEntry entry{.window = only(context.window), .chunk = only(context.chunk), .step = only(context.step), .branch = only(branch)};
  entry.tokens = PlanTokens::of(decision.tokens);
  entry.rest = decision.rest;
  entry.clip = decision.clip;
  entry.phase = decision.phase;
  entry.distance = decision.distance;
  entries_[{context.window, context.chunk, context.step, branch}] = std::move(entry);
}

Plan PlanRecorder::plan() const {
  Plan plan;
  plan.comment = comment_;
  plan.attention = attention_;
  plan.extras = extras_;
  PlanGeometry g{.plane = plane_, .steps = steps_, .branches = branches_, .windows = {}};
  for (const auto& [key, frames] : frames_) {
    const auto& [window, chunk] = key;
    g.windows.resize(static_cast<size_t>(window) + 1);
    g.windows.back().frames.push_back(frames);
    if (!entries_.contains({window, chunk, 0, 0})) ++g.windows.back().prefix;
  }
  plan.geometry = std::move(g);
  for (auto at = entries_.begin(); at != entries_.end();) {
    // The branches of one step stand together.
    const auto& [window, chunk, step, branch] = at->first;
    const auto end = entries_.upper_bound({window, chunk, step, branches_});
    PlanEntry first = at->second;
    first.branch = {};
    const bool alike = std::distance(at, end) == branches_ && std::all_of(at, end, [&](const auto& item) {
                         PlanEntry entry = item.second;
                         entry.branch = {};
                         return entry == first;
                       });
    if (alike)
      plan.entries.push_back(std::move(first));
    else
      for (auto each = at; each != end; ++each) plan.entries.push_back(each->second);
    at = end;
  }
  return plan;
}

}  // namespace longtake
