#include "runtime/magi_policies.h"

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

}  // namespace

void set_up(VideoSettings& settings, const PolicyChoice& choice) {
  const auto* motion = std::get_if<LatentMotionCacheSettings>(&choice.settings);
  if (motion && motion->tokens && !settings.config.engine.distilled)
    fail_usage(
        "{} decides per token, which base models of MAGI-1 do not allow; use a distilled model, {}:tokens=off or "
        "flowcache",
        choice.name, choice.name);
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
