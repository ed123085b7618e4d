#include "runtime/policies.h"

#include <fmt/ranges.h>

#include "base/error.h"
#include "base/suggest.h"
#include "cache/plan_replay.h"

namespace longtake {
namespace {

struct PolicyEntry {
  std::string name, summary;
  PolicyChoice start;                                                 // without a preset
  std::vector<std::pair<std::string, decltype(PolicyChoice::settings)>> presets;  // the first one is the default
};

// MotionCache's own preset comes first: its released settings, but predicting where they reuse, which costs 6 % more FLOPs and was 9 dB
// nearer to `causal` on the demo model (docs/policies.md).
PolicyEntry motioncache_entry(PolicyEntry e) {
  const PredictSettings own = PredictSettings::presets().front().second;
  e.start.settings = own;
  e.presets.insert(e.presets.begin(), {"own", own});
  return e;
}

template <class Settings>
PolicyEntry entry(std::string name, std::string summary, AttentionScheme attention = AttentionScheme::causal) {
  PolicyEntry e{name, std::move(summary), {}, {}};
  e.start.name = name;
  e.start.attention = attention;
  e.start.settings = Settings{};
  for (const auto& [preset, settings] : Settings::presets()) e.presets.push_back({preset, settings});
  return e;
}

const std::vector<PolicyEntry>& registry(PolicyFamily family) {
  static const std::vector<PolicyEntry> latent{
      entry<RecomputeSettings>("none", "everything is computed, with the passes for clean keys and the nearly clean copies: upstream MAGI-1"),
      entry<RecomputeSettings>("causal", "everything is computed once, without these; later chunks read the keys of a chunk's last step"),
      entry<LatentTeaCacheSettings>("teacache", "whole rows are skipped, all chunks together"),
      entry<LatentFlowCacheSettings>("flowcache", "whole chunks reuse their velocity, each deciding for itself"),
      entry<LatentMotionCacheSettings>("motioncache", "whole chunks first, then tokens: still ones wait longer")};
  static const std::vector<PolicyEntry> residual{
      entry<RecomputeSettings>("none", "everything is computed, with full attention over the window: upstream SkyReels-V2",
                               AttentionScheme::window),
      entry<RecomputeSettings>("causal", "everything is computed, each chunk attending to itself and the chunks before it"),
      entry<TeaCacheSettings>("teacache", "whole rows are skipped, all chunks together"),
      entry<FlowCacheSettings>("flowcache", "whole chunks reuse their residual, each deciding for itself"),
      motioncache_entry(entry<MotionCacheSettings>("motioncache", "whole chunks first, then tokens: still ones wait longer. slow and fast are "
                                                                  "as published and reuse residuals, own predicts them")),
      entry<PredictSettings>("predict", "as motioncache, but residuals are predicted where it would reuse them"),
      entry<DriftCacheSettings>("driftcache", "residuals are predicted until they have drifted too far, by what they were seen to change")};
  return family == PolicyFamily::latent ? latent : residual;
}

std::vector<std::string> preset_names(const PolicyEntry& e) {
  std::vector<std::string> names;
  for (const auto& [name, settings] : e.presets) names.push_back(name);
  return names;
}

SettingKey distance_key(PolicyChoice& choice) {
  SettingKey key = choice_key<std::optional<DistanceRule>>(
      "distance", choice.distance, {{"polynomial", DistanceRule::polynomial}, {"linear", DistanceRule::linear}},
      "how a change of the timestep embedding becomes a distance; the model's recipe says which where unset");
  key.expects += ", or C4/C3/C2/C1/C0 as calibrate fits them";
  key.text = [&choice, word = key.text] { return choice.fit ? to_text(*choice.fit) : word(); };
  key.set = [&choice, word = key.set](const std::string& text) {
    choice.fit = parse_polynomial(text);
    return choice.fit || word(text);
  };
  return key;
}

// Whether it takes its distances from what is generated, and none from the schedule.
bool measures_latents(const PolicyChoice& choice) {
  return std::holds_alternative<LatentTeaCacheSettings>(choice.settings) || std::holds_alternative<LatentFlowCacheSettings>(choice.settings) ||
         std::holds_alternative<LatentMotionCacheSettings>(choice.settings);
}

// The policy's own keys, then the one of every policy that measures distances.
std::vector<SettingKey> keys_of(PolicyChoice& choice) {
  std::vector<SettingKey> keys = std::visit([](auto& settings) { return settings.keys(); }, choice.settings);
  if (!keys.empty() && !measures_latents(choice)) keys.push_back(distance_key(choice));
  return keys;
}

}  // namespace

int PolicyChoice::residuals() const {
  return std::visit([](const auto& s) { return s.residuals(); }, settings);
}

PolicyChoice choose_policy(const PolicySpec& spec, bool parity, PolicyFamily family) {
  std::vector<std::string> names;
  const PolicyEntry* found = nullptr;
  for (const PolicyEntry& e : registry(family)) {
    names.push_back(e.name);
    if (e.name == spec.name) found = &e;
  }
  if (found == nullptr)
    fail_usage("there is no policy '{}'{}; policies are {}", spec.name, did_you_mean(spec.name, names), fmt::join(names, ", "));
  PolicyChoice choice = found->start;
  choice.parity = parity;
  if (found->presets.empty() && !spec.preset.empty())
    fail_usage("policy {} takes no preset and no keys, found '{}'", spec.name, to_text(spec));
  if (!found->presets.empty()) {
    const auto presets = preset_names(*found);
    // The reference's parity is with the released settings.
    const std::string wanted = !spec.preset.empty() ? spec.preset : parity && spec.name == "motioncache" ? "slow" : presets.front();
    const auto preset = std::find(presets.begin(), presets.end(), wanted);
    if (preset == presets.end())
      fail_usage("{} has no preset '{}'{}; presets are {}", spec.name, spec.preset, did_you_mean(spec.preset, presets),
                 fmt::join(presets, ", "));
    choice.settings = found->presets[static_cast<size_t>(preset - presets.begin())].second;
  }
  if (auto* motion = std::get_if<MotionCacheSettings>(&choice.settings); motion && parity)
    motion->shared_mask = motion->last_step = motion->fresh_reference = false;
  if (auto* motion = std::get_if<LatentMotionCacheSettings>(&choice.settings); motion && parity)
    motion->carry = motion->last_step = motion->decide_last_row = motion->compared_first_frame = false;
  const std::vector<SettingKey> keys = keys_of(choice);
  for (const auto& [key, value] : spec.values) set_key(spec.name, keys, key, value);
  if (const auto* tea = std::get_if<TeaCacheSettings>(&choice.settings)) choice.attention = tea->base;
  return choice;
}

PolicyChoice choose_plan(Plan plan) {
  PolicyChoice choice;
  choice.name = "plan";
  choice.attention = plan.attention;
  choice.settings = PlanSettings{std::make_shared<const Plan>(plan), PlanReplay(plan, 1).residuals()};
  return choice;
}

std::string describe_policies(PolicyFamily family) {
  std::string out;
  for (const PolicyEntry& e : registry(family)) {
    out += fmt::format("{:<12} {}\n", e.name, e.summary);
    if (!e.presets.empty()) out += fmt::format("{:12} presets: {} (default {})\n", "", fmt::join(preset_names(e), ", "), e.presets[0].first);
    PolicyChoice choice = choose_policy({e.name, "", {}}, false, family);
    for (const SettingKey& key : keys_of(choice)) {
      const std::string value = key.text();
      out += fmt::format("{:12} {:<12} {} [{}{}]\n", "", key.name, key.help, key.expects, value.empty() ? "" : "; default: " + value);
    }
  }
  return out;
}

std::function<double(double)> distance_rule(const PolicyChoice& choice, const StepModel& model) {
  if (choice.fit) return [fit = *choice.fit](double r) { return fit.monotone(r); };
  if (choice.distance.value_or(model.distance) == DistanceRule::linear) return [](double r) { return r; };
  // 5120 is the width of the 14B models; the reference takes the 1.3B polynomial for every model.
  const DistancePolynomial& polynomial = model.dim >= 5120 && !choice.parity ? kWan14B : kWan1_3B;
  return [polynomial, parity = choice.parity](double r) { return parity ? polynomial(r) : polynomial.monotone(r); };
}

std::vector<double> step_distances(const PolicyChoice& choice, const std::vector<int>& timesteps, const StepModel& model) {
  const std::vector<double> t(timesteps.begin(), timesteps.end());
  std::vector<double> distance = relative_step_change(t, model.embedding);
  std::transform(distance.begin(), distance.end(), distance.begin(), distance_rule(choice, model));
  return distance;
}

std::unique_ptr<CachePolicy> make_policy(const PolicyChoice& choice, const std::vector<int>& timesteps, const StepModel& model,
                                         int branches) {
  const auto distances = [&] { return step_distances(choice, timesteps, model); };
  struct Maker {
    std::function<std::vector<double>()> distances;
    const PolicyChoice& choice;
    const StepModel& model;
    int branches;
    using Policy = std::unique_ptr<CachePolicy>;
    Policy operator()(const RecomputeSettings&) const { return std::make_unique<RecomputeAll>(branches); }
    Policy operator()(const TeaCacheSettings& s) const {
      return std::make_unique<TeaCache>(s, ConditioningChange(model.embedding), distance_rule(choice, model), branches);
    }
    Policy operator()(const FlowCacheSettings& s) const { return std::make_unique<FlowCache>(s, distances(), branches); }
    Policy operator()(const MotionCacheSettings& s) const { return std::make_unique<MotionCache>(s, distances(), branches); }
    Policy operator()(const PredictSettings& s) const { return std::make_unique<Predict>(s, distances(), branches); }
    Policy operator()(const DriftCacheSettings& s) const { return std::make_unique<DriftCache>(s, distances(), branches); }
    Policy operator()(const PlanSettings& s) const { return std::make_unique<PlanReplay>(*s.plan, branches); }
    Policy operator()(const LatentTeaCacheSettings& s) const { return std::make_unique<LatentTeaCache>(s); }
    Policy operator()(const LatentFlowCacheSettings& s) const { return std::make_unique<LatentMotionCache>(s.motioncache()); }
    Policy operator()(const LatentMotionCacheSettings& s) const { return std::make_unique<LatentMotionCache>(s); }
  };
  return std::visit(Maker{distances, choice, model, branches}, choice.settings);
}

std::unique_ptr<CachePolicy> make_latent_policy(const PolicyChoice& choice) {
  LONGTAKE_CHECK(choice.residuals() == 0 || measures_latents(choice) || std::holds_alternative<PlanSettings>(choice.settings),
                 "expected a policy that measures latents, or a plan, found {}", choice.name);
  return make_policy(choice, {}, {}, 1);
}

}  // namespace longtake
