// From a policy's text form to the policy object and the attention scheme it runs with.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/motioncache.h"
#include "cache/step_distance.h"
#include "runtime/denoise.h"
#include "runtime/policy_spec.h"

namespace longtake {

// How step changes become distances. `polynomial` is TeaCache's fit for the model's size (held monotone outside its range, except
// in parity mode); `linear` takes the relative change of the timestep embedding itself.
enum class DistanceRule { polynomial, linear };

struct PolicyChoice {
  std::string name;                 // none, causal, motioncache
  AttentionScheme attention = AttentionScheme::causal;
  MotionCacheSettings motion;       // motioncache only
  std::optional<DistanceRule> distance;  // the model's own where unset
  bool parity = false;
};

// Checks names, presets and keys; unknown ones are usage errors with the nearest match. Presets of motioncache: `slow` (the
// released settings) and `fast`.
PolicyChoice choose_policy(const PolicySpec& spec, bool parity);

// What a model's steps look like to a policy.
struct StepModel {
  std::function<at::Tensor(double)> embedding;             // the conditioning vector of a timestep
  DistanceRule distance = DistanceRule::polynomial;        // from the recipe
  int64_t dim = 0;                                         // selects the polynomial
};

// How far each step of the schedule lies from the one before; what adds up to motioncache's threshold.
std::vector<double> step_distances(const PolicyChoice& choice, const std::vector<int>& timesteps, const StepModel& model);

std::unique_ptr<CachePolicy> make_policy(const PolicyChoice& choice, const std::vector<int>& timesteps, const StepModel& model,
                                         int branches);

}  // namespace longtake
