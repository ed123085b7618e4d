#include "runtime/magi_step.h"

#include <algorithm>

#include "base/error.h"
#include "runtime/magi_guidance.h"

namespace longtake::magi {
namespace {

enum BaseBranch { kText = 0, kNullText = 1, kAlone = 2 };
enum DistilledBranch { kMain = 0, kCopy = 1 };

const at::Tensor& velocity_of(int chunk, int branch, std::span<const WorkItem> items,
                              std::span<const at::Tensor> velocities) {
  static const at::Tensor none;
  for (size_t i = 0; i < items.size(); ++i)
    if (items[i].chunk == chunk && items[i].branch == branch) return velocities[i];
  return none;
}

}  // namespace

std::span<const ChunkStep> in_flight(const Row& row) {
  return row.prefix ? std::span<const ChunkStep>{} : std::span(row.chunks).subspan(row.extra_clean);
}

std::vector<Branch> guidance_branches(bool distilled, const std::vector<const TextKv*>& texts,
                                      const TextKv& null_text, bool own_keys) {
  if (distilled) return {{texts, false, 0}, {texts, false, -1}};
  const std::vector<const TextKv*> none(texts.size(), &null_text);
  if (!own_keys) return {{texts, false, 0}, {none, true, 0}, {none, true, -1}};
  return {{texts, false, 0, 1}, {none, true, 0}, {none, true, -1, 2}};
}

std::vector<WorkItem> work_items(const Row& row, const ScheduleSettings& settings, const Config& config,
                                 int64_t chunk_tokens, bool all_copies) {
  const bool distilled = config.engine.distilled;
  const double dt = distilled ? step_size(settings, row.interval) : 0;
  std::vector<WorkItem> items;
  const auto add = [&](int branch, const ChunkStep& c, KeyRange chunks, bool writes_kv) {
    items.push_back({.chunk = c.chunk,
                     .branch = branch,
                     .timesteps = std::vector<double>(config.run.chunk_frames, c.t),
                     .keys = {chunks.begin * chunk_tokens, chunks.end * chunk_tokens},
                     .writes_kv = writes_kv,
                     .finished = c.step == settings.steps,
                     .step_size = dt});
  };
  const auto alone = [](const ChunkStep& c) { return KeyRange{c.chunk, c.chunk + 1}; };
  if (distilled) {
    for (const ChunkStep& c : row.chunks) add(kMain, c, c.keys, true);
    if (row.nearly_clean && (all_copies || in_flight(row).front().keys != alone(in_flight(row).front())))
      add(kCopy, in_flight(row).front(), alone(in_flight(row).front()), false);
    return items;
  }
  const auto needs = [&](const ChunkStep& c) { return guidance_scales(config.run, c.t); };
  if (std::any_of(in_flight(row).begin(), in_flight(row).end(),
                  [&](const ChunkStep& c) { return needs(c).needs_text(); }))
    for (const ChunkStep& c : row.chunks) add(kText, c, c.keys, false);
  for (const ChunkStep& c : row.chunks) add(kNullText, c, c.keys, true);
  for (const ChunkStep& c : in_flight(row))
    if (needs(c).needs_alone()) add(kAlone, c, alone(c), false);
  return items;
}

bool runs_from_the_start(const RunConfig& run, int branch) {
  const GuidanceScales scales = guidance_scales(run, 0);
  return branch == kText ? scales.needs_text() : branch == kAlone ? scales.needs_alone() : true;
}

std::vector<at::Tensor> guided_velocities(const Row& row, const Config& config, std::span<const WorkItem> items,
                                          std::span<const at::Tensor> velocities) {
  LONGTAKE_CHECK(items.size() == velocities.size(), "expected a velocity for each of {} items, found {}", items.size(),
                 velocities.size());
  std::vector<at::Tensor> out;
  for (const ChunkStep& c : in_flight(row)) {
    const auto of = [&](int branch) { return velocity_of(c.chunk, branch, items, velocities); };
    if (std::none_of(items.begin(), items.end(), [&](const WorkItem& item) { return item.chunk == c.chunk; })) {
      out.push_back({});
      continue;
    }
    if (config.engine.distilled) {
      const at::Tensor copy = of(kCopy);
      out.push_back(copy.defined() ? blend_copy(of(kMain), copy) : of(kMain));
    } else {
      out.push_back(guide(guidance_scales(config.run, c.t), of(kText), of(kNullText), of(kAlone)));
    }
  }
  return out;
}

}  // namespace longtake::magi
