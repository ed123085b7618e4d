// From a policy's text form to the policy object and the attention scheme it runs with.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "cache/driftcache.h"
#include "cache/flowcache.h"
#include "cache/latent_motioncache.h"
#include "cache/latent_teacache.h"
#include "cache/motioncache.h"
#include "cache/plan.h"
#include "cache/predict.h"
#include "cache/step_distance.h"
#include "cache/teacache.h"
#include "runtime/policy_spec.h"

namespace longtake {

// Of the policies that recompute everything.
struct RecomputeSettings {
  static int residuals() { return 0; }
  static std::vector<std::pair<std::string, RecomputeSettings>> presets() { return {}; }
  std::vector<SettingKey> keys() { return {}; }
};

// Of a replayed plan.
struct PlanSettings {
  std::shared_ptr<const Plan> plan;
  int kept = 0;  // residuals a token
  int residuals() const { return kept; }
  std::vector<SettingKey> keys() { return {}; }
};

// Policies of the same name decide by other things where a model's steps differ in more than a conditioning vector.
enum class PolicyFamily {
  residual,  // SkyReels-V2: step distances from the timestep embedding, motion of last hidden states
  latent     // MAGI-1: changes of embedded latents, motion of latents
};

struct PolicyChoice {
  std::string name;  // none, causal, teacache, flowcache, motioncache, plan; residual: predict, driftcache too
  AttentionScheme attention = AttentionScheme::causal;
  std::variant<RecomputeSettings, TeaCacheSettings, FlowCacheSettings, MotionCacheSettings, PredictSettings, DriftCacheSettings,
               PlanSettings, LatentTeaCacheSettings, LatentFlowCacheSettings, LatentMotionCacheSettings>
      settings;
  // How step changes become distances: `polynomial` is TeaCache's fit for the model's size (held monotone outside its range, except
  // in parity mode), `linear` the relative change of the timestep embedding itself. The model's own rule where unset. A fit of the
  // user's own comes before both.
  std::optional<DistanceRule> distance;
  std::optional<DistancePolynomial> fit;
  bool parity = false;

  // Computed residuals that a run keeps per token.
  int residuals() const;
};

// Checks names, presets and keys; unknown ones are usage errors with the nearest match. A policy's first preset is its default.
PolicyChoice choose_policy(const PolicySpec& spec, bool parity, PolicyFamily family = PolicyFamily::residual);

// The replay of a plan that passed check_plan.
PolicyChoice choose_plan(Plan plan);

// Every policy with its presets, keys and their defaults, for help.
std::string describe_policies(PolicyFamily family = PolicyFamily::residual);

// What a model's steps look like to a policy.
struct StepModel {
  std::function<at::Tensor(double)> embedding;             // the conditioning vector of a timestep; policies keep it
  DistanceRule distance = DistanceRule::polynomial;        // from the recipe
  int64_t dim = 0;                                         // selects the polynomial
};

// From a relative change of conditioning vectors to a distance.
std::function<double(double)> distance_rule(const PolicyChoice& choice, const StepModel& model);

// How far each step of the schedule lies from the one before; what adds up to a policy's threshold.
std::vector<double> step_distances(const PolicyChoice& choice, const std::vector<int>& timesteps, const StepModel& model);

std::unique_ptr<CachePolicy> make_policy(const PolicyChoice& choice, const std::vector<int>& timesteps, const StepModel& model,
                                         int branches);
// Of the latent family, which asks the model nothing before it runs.
std::unique_ptr<CachePolicy> make_latent_policy(const PolicyChoice& choice);

}  // namespace longtake
