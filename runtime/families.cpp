#include "runtime/families.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/suggest.h"
#include "base/utf8.h"
#include "runtime/magi_recipe.h"

namespace longtake {
namespace {

using Reasons = std::map<std::string, std::string>;

const Reasons& not_in_skyreels() {
  static const Reasons reasons = {
      {"sampling.in_flight", "how chunks trail one another there is sampling.ar_step"},
      {"sampling.key_chunks", "a chunk there sees all chunks of its window"},
      {"sampling.clean_key_chunks", "finished chunks there do not run again for their keys"},
      {"sampling.prev_guidance", "guidance there does not weigh the chunks before"},
      {"sampling.special_tokens", "its text encoder has no special rows"},
  };
  return reasons;
}

const Reasons& not_in_magi() {
  static const Reasons reasons = {
      {"negative", "guidance there steers away from a learned caption that stands for no text"},
      {"conditioning.end_image", "it has no way to lead to a picture"},
      {"sampling.shift", "its noise levels are those of its training"},
      {"sampling.window", "its window is counted in chunks: sampling.in_flight and sampling.key_chunks"},
      {"sampling.overlap", "long videos there are one run without windows to overlap"},
      {"sampling.ar_step", "how chunks trail one another there follows from sampling.steps and sampling.in_flight"},
      {"sampling.addnoise", "given frames there are clean"},
      {"sampling.history", "long videos there are one run without windows to take over"},
      {"sampling.kv", "what it keeps follows from sampling.key_chunks"},
  };
  return reasons;
}

const Reasons& not_in_magi_vae() {
  static const Reasons reasons = {
      {"run.decode_latents", "its VAE decodes whole chunks tile by tile"},
  };
  return reasons;
}

const Reasons& not_in_distilled_magi() {
  static const Reasons reasons = {
      {"sampling.guidance", "distilled models have their guidance built in"},
      {"sampling.prev_guidance", "distilled models have their guidance built in"},
  };
  return reasons;
}

}  // namespace

void check_family(const std::string& family, const std::string& where) {
  const std::vector<std::string> known = {kSkyreelsFamily, kMagiFamily};
  if (family != known[0] && family != known[1])
    fail_usage("{}: unknown family '{}'{}; known are {}", where, printable(family), did_you_mean(family, known), fmt::join(known, ", "));
}

std::string without_effect(const Recipe& recipe, const std::string& option) {
  const auto reason = [&](const Reasons& reasons) {
    const auto found = reasons.find(option);
    return found == reasons.end() ? std::string() : found->second;
  };
  if (!is_magi(recipe)) return reason(not_in_skyreels());
  std::string why = reason(not_in_magi());
  if (why.empty() && recipe.architecture.distilled) why = reason(not_in_distilled_magi());
  if (why.empty() && !has_wan_vae(recipe)) why = reason(not_in_magi_vae());
  return why;
}

std::vector<std::string> options_without_effect(const Recipe& recipe) {
  std::vector<std::string> keys;
  for (const OptionInfo& info : option_schema())
    if (!without_effect(recipe, info.key).empty()) keys.push_back(info.key);
  return keys;
}

void check_options(const OptionSet& options, const Recipe& recipe) {
  for (const OptionInfo& info : option_schema()) {
    const OptionSource& source = options.source(info.key);
    if (source.level < SourceLevel::config) continue;
    if (const std::string why = without_effect(recipe, info.key); !why.empty())
      fail_usage("{}: {} has no effect on {}: {}; leave it out", source.where, info.key, recipe.name, why);
  }
}

void validate(const GenerateOptions& options, const Recipe& recipe) {
  if (is_magi(recipe))
    validate_run(options);
  else
    validate(options);
}

void check_recipe_family(const Recipe& recipe, const std::string& origin) {
  for (const OptionAssignment& value : recipe.defaults)
    if (const std::string why = without_effect(recipe, value.key); !why.empty())
      fail_usage("{}: {} has no effect on this model: {}", value.where, value.key, why);
  const bool rows_wanted = is_magi(recipe) && std::none_of(recipe.defaults.begin(), recipe.defaults.end(), [](const OptionAssignment& value) {
    return value.key == "sampling.special_tokens" && value.value == "none";
  });
  for (const FileLayout& layout : recipe.layouts) {
    if (!layout.special_tokens.empty() && !is_magi(recipe))
      fail_usage("{}: layout {} has special_tokens, which only models of magi-1 have", origin, layout.name);
    if (layout.special_tokens.empty() && rows_wanted)
      fail_usage("{}: layout {} does not say where the special_tokens are; a model without them has sampling.special_tokens: none", origin,
                 layout.name);
  }
}

void require_skyreels(const Recipe& recipe, const std::string& verb) {
  if (is_magi(recipe))
    fail_usage("{} is of the family {}, for which longtake {} has nothing to fit: its policies compare latents, not the residuals and timestep "
               "embeddings that thresholds of {} are fitted to", recipe.name, recipe.architecture.family, verb, kSkyreelsFamily);
}

}  // namespace longtake
