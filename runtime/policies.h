// From a policy's text form to the policy object and the attention scheme it runs with.
#pragma once

#include <functional>
#include <memory>
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
  DistanceRule distance = DistanceRule::polynomial;
  bool parity = false;
};

// Checks names, presets and keys; unknown ones are usage errors with the nearest match. Presets of motioncache: `slow` (the
// released settings) and `fast`.
PolicyChoice choose_policy(const PolicySpec& spec, bool parity);

// timesteps of the schedule, and the model's conditioning vector at a timestep; transformer_dim selects the polynomial.
std::unique_ptr<CachePolicy> make_policy(const PolicyChoice& choice, const std::vector<int>& timesteps,
                                         const std::function<at::Tensor(double)>& step_embedding, int64_t transformer_dim,
                                         int branches);

// The distances alone, for dry runs.
std::vector<double> step_distances(const PolicyChoice& choice, const std::vector<int>& timesteps,
                                   const std::function<at::Tensor(double)>& step_embedding, int64_t transformer_dim);

}  // namespace longtake
