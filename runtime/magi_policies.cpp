#include "runtime/magi_policies.h"

#include <algorithm>

#include "base/error.h"

namespace longtake::magi {
namespace {

bool with_extras(const PolicyChoice& choice) {
  return std::visit(
      [&](const auto& s) {
        if constexpr (requires { s.extras; }) return s.extras;
        if constexpr (requires { s.plan; }) return s.plan->extras;
        return choice.name == "none";
      },
      choice.settings);
}

// Whether it may compute a part of a chunk's tokens.
bool per_token(const PolicyChoice& choice) {
  if (const auto* motion = std::get_if<LatentMotionCacheSettings>(&choice.settings)) return motion->tokens;
  const auto* replay = std::get_if<PlanSettings>(&choice.settings);
  return replay && std::any_of(replay->plan->entries.begin(), replay->plan->entries.end(), [](const PlanEntry& entry) {
           return entry.tokens.kind != PlanTokens::Kind::all && entry.tokens.kind != PlanTokens::Kind::none;
         });
}

}  // namespace

void set_up(VideoSettings& settings, const PolicyChoice& choice) {
  const bool base = !settings.config.engine.distilled;
  if (base && choice.parity && per_token(choice))
    fail_usage("{} decides per token, which the program that --parity motioncache-ref repeats does with distilled models alone; leave out "
               "--parity, or use a distilled model", choice.name);
  settings.own_keys = base && per_token(choice);
  settings.schedule.clean_pass = settings.schedule.nearly_clean_copy = with_extras(choice);
  settings.quirks = {};
  if (!choice.parity) return;
  settings.quirks.moved_prefix = true;
  settings.quirks.displacement = settings.quirks.first_chunks_keys = settings.quirks.diluted_copies =
      settings.quirks.noisy_motion = choice.residuals() > 0;
}

PlanGeometry plan_geometry(const VideoSize& size, int64_t plane, int steps) {
  const std::vector<int64_t> frames(static_cast<size_t>(size.chunks), size.chunk_frames);
  return {.plane = plane, .steps = steps, .branches = 1, .windows = {{.frames = frames, .prefix = size.first}}};
}

void check_plan(const Plan& plan, const PlanGeometry& run, const std::string& name) {
  if (plan.attention == AttentionScheme::window)
    fail_usage("{} has full attention over a window, which MAGI-1 has not: its chunks see those before them; let 'attention' be causal, or "
               "leave it out", name);
  longtake::check_plan(plan, run, name);
}

}  // namespace longtake::magi
