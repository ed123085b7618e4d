// From a calibration's samples to what a user can act on: a fitted step distance, how far to trust motion, and thresholds.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <span>
#include <string>
#include <vector>

#include "cache/step_distance.h"
#include "runtime/calibration.h"

namespace longtake {

// Least squares over (change, residual), degree 4 as TeaCache's polynomials (less where fewer changes differ).
struct DistanceFit {
  DistancePolynomial polynomial{};
  double low = 0, high = 0;    // the changes that were seen
  double r2 = 0;               // of the polynomial itself
  double monotone_from = 0, monotone_to = 0;  // the longest part of [low, high] where it does not fall
};

// Errors: usage where there are fewer than three samples.
DistanceFit fit_distance(std::span<const StepSample> samples);

// The share of the variance of the true changes that a rule explains. Only proportions matter to a threshold, so the rule may be
// scaled; 0 is no better than a constant.
double explained(std::span<const StepSample> samples, const std::function<double(double)>& rule);

// Where the polynomial that the reference would take leaves its range.
struct RangeCheck {
  int steps = 0;       // that were looked at
  int negative = 0;    // the polynomial is below zero: an accumulator would shrink
  int beyond = 0;      // the change lies beyond its maximum: a larger change counts for less
};
RangeCheck check_range(const DistancePolynomial& polynomial, std::span<const double> changes);

// A threshold that recomputes at most `share` of the tokens, by the shadows of one policy; `reached` is false where none does, and
// then it is the one that recomputes least.
struct Suggestion {
  std::string policy;
  double threshold = 0, share = 1;
  bool reached = false;
};
Suggestion suggest_threshold(std::span<const Shadow> shadows, const std::string& policy, double share);

struct CalibrationReport {
  std::string model, reference_name;      // "Wan 1.3B"
  DistancePolynomial reference{};
  bool linear = false;                    // what the model's recipe says
  int runs = 0, steps = 0;
  std::vector<double> speedups;           // wanted, in FLOPs against causal
};

nlohmann::ordered_json to_json(const CalibrationReport& report, const Calibration& calibration);
std::string to_text(const CalibrationReport& report, const Calibration& calibration);

}  // namespace longtake
