#include "runtime/policies.h"

#include <fmt/ranges.h>

#include <charconv>

#include "base/error.h"
#include "base/suggest.h"

namespace longtake {
namespace {

const std::vector<std::string> kNames{"none", "causal", "motioncache"};
const std::vector<std::string> kPresets{"slow", "fast"};

double number(const std::string& key, const std::string& text, double low, double high) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= low && value <= high))
    fail_usage("policy key {} must be a number between {} and {}, found '{}'", key, low, high, text);
  return value;
}

int whole(const std::string& key, const std::string& text, int low, int high) {
  const double value = number(key, text, low, high);
  if (value != std::floor(value)) fail_usage("policy key {} must be a whole number, found '{}'", key, text);
  return static_cast<int>(value);
}

bool toggle(const std::string& key, const std::string& text) {
  if (text == "true" || text == "on" || text == "1") return true;
  if (text == "false" || text == "off" || text == "0") return false;
  fail_usage("policy key {} must be on or off, found '{}'", key, text);
}

template <class T>
T choice(const std::string& key, const std::string& text, const std::vector<std::pair<std::string, T>>& values) {
  std::vector<std::string> names;
  for (const auto& [name, value] : values) {
    if (name == text) return value;
    names.push_back(name);
  }
  fail_usage("policy key {} must be one of {}, found '{}'{}", key, fmt::join(names, ", "), text, did_you_mean(text, names));
}

void apply(PolicyChoice& policy, const std::string& key, const std::string& value) {
  MotionCacheSettings& m = policy.motion;
  const std::map<std::string, std::function<void()>> keys{
      {"threshold", [&] { m.threshold = number(key, value, 0, 1e6); }},
      {"warmup", [&] { m.warmup = whole(key, value, 0, 1000); }},
      {"phase1", [&] { m.phase1 = whole(key, value, 0, 1000); }},
      {"floor", [&] { m.floor = number(key, value, 0, 1); }},
      {"vote",
       [&] {
         m.vote = value != "off";
         if (m.vote) m.vote_share = number(key, value, 0, 1);
       }},
      {"min_ratio", [&] { m.min_ratio = number(key, value, 0, 1); }},
      {"norm",
       [&] {
         m.norm = choice<WeightNorm>(key, value,
                                     {{"max_rescale", WeightNorm::max_rescale}, {"max", WeightNorm::max}, {"mean", WeightNorm::mean}});
       }},
      {"distance",
       [&] {
         policy.distance = choice<DistanceRule>(
             key, value, {{"polynomial", DistanceRule::polynomial}, {"linear", DistanceRule::linear}});
       }},
      {"shared_mask", [&] { m.shared_mask = toggle(key, value); }},
      {"last_step", [&] { m.last_step = toggle(key, value); }},
  };
  const auto found = keys.find(key);
  if (found == keys.end()) {
    std::vector<std::string> names;
    for (const auto& [name, set] : keys) names.push_back(name);
    fail_usage("motioncache has no key '{}'{}; its keys are {}", key, did_you_mean(key, names), fmt::join(names, ", "));
  }
  found->second();
}

}  // namespace

PolicyChoice choose_policy(const PolicySpec& spec, bool parity) {
  PolicyChoice policy;
  policy.name = spec.name;
  policy.parity = parity;
  if (std::find(kNames.begin(), kNames.end(), spec.name) == kNames.end())
    fail_usage("there is no policy '{}'{}; policies are {}", spec.name, did_you_mean(spec.name, kNames), fmt::join(kNames, ", "));
  if (spec.name != "motioncache") {
    if (!spec.preset.empty() || !spec.values.empty())
      fail_usage("policy {} takes no preset and no keys, found '{}'", spec.name, to_text(spec));
    policy.attention = spec.name == "none" ? AttentionScheme::window : AttentionScheme::causal;
    return policy;
  }
  if (parity) policy.motion.shared_mask = policy.motion.last_step = policy.motion.fresh_reference = false;
  if (spec.preset == "fast")
    // The released code has no fast setting; this is the slow one with FlowCache's fast threshold.
    policy.motion.threshold = 0.15;
  else if (!spec.preset.empty() && spec.preset != "slow")
    fail_usage("motioncache has no preset '{}'{}; presets are {}", spec.preset, did_you_mean(spec.preset, kPresets),
               fmt::join(kPresets, ", "));
  for (const auto& [key, value] : spec.values) apply(policy, key, value);
  return policy;
}

std::vector<double> step_distances(const PolicyChoice& choice, const std::vector<int>& timesteps, const StepModel& model) {
  const std::vector<double> t(timesteps.begin(), timesteps.end());
  std::vector<double> distance = relative_step_change(t, model.embedding);
  if (choice.distance.value_or(model.distance) == DistanceRule::linear) return distance;
  // 5120 is the width of the 14B models; the reference takes the 1.3B polynomial for every model.
  const DistancePolynomial& polynomial = model.dim >= 5120 && !choice.parity ? kWan14B : kWan1_3B;
  for (double& d : distance) d = choice.parity ? polynomial(d) : polynomial.monotone(d);
  return distance;
}

std::unique_ptr<CachePolicy> make_policy(const PolicyChoice& choice, const std::vector<int>& timesteps, const StepModel& model,
                                         int branches) {
  if (choice.name != "motioncache") return std::make_unique<RecomputeAll>(branches);
  return std::make_unique<MotionCache>(choice.motion, step_distances(choice, timesteps, model), branches);
}

}  // namespace longtake
