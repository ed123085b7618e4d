#include "cache/step_distance.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/mean.h>

namespace longtake {

double DistancePolynomial::operator()(double r) const {
  double value = 0;
  for (double c : coefficients) value = value * r + c;
  return value;
}

double DistancePolynomial::monotone(double r) const {
  // The running maximum over [0, r], sampled finely enough that the table of a run cannot tell the difference.
  double best = 0;
  constexpr int samples = 256;
  for (int i = 1; i <= samples; ++i) best = std::max(best, (*this)(std::min(r, 1.0) * i / samples));
  return best;
}

std::vector<double> relative_step_change(std::span<const double> timesteps,
                                         const std::function<at::Tensor(double)>& embedding) {
  std::vector<double> change;
  at::Tensor previous;
  for (double t : timesteps) {
    const at::Tensor current = embedding(t);
    change.push_back(previous.defined() ? at::mean(at::abs(current - previous)).item<double>() /
                                              (at::mean(at::abs(previous)).item<double>() + 1e-8)
                                        : 0.0);
    previous = current;
  }
  return change;
}

}  // namespace longtake
