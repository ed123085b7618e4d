#include "runtime/magi_policies.h"

#include "base/error.h"

namespace longtake::magi {
namespace {

bool with_extras(const PolicyChoice& choice) {
  return std::visit(
      [&](const auto& s) {
        if constexpr (requires { s.extras; }) return s.extras;
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

}  // namespace longtake::magi
