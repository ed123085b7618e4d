#include "cache/step_distance.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/mean.h>

#include <charconv>

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

std::string to_text(const DistancePolynomial& polynomial) {
  std::string out;
  for (const double c : polynomial.coefficients) out += fmt::format("{}{:.9g}", out.empty() ? "" : "/", c);
  return out;
}

std::optional<DistancePolynomial> parse_polynomial(std::string_view text) {
  DistancePolynomial out{};
  for (size_t i = 0; i < out.coefficients.size(); ++i) {
    const bool last = i + 1 == out.coefficients.size();
    const size_t end = last ? text.size() : text.find('/');
    if (end == std::string_view::npos) return std::nullopt;
    double& value = out.coefficients[i];
    const auto [stop, error] = std::from_chars(text.data(), text.data() + end, value);
    if (error != std::errc() || stop != text.data() + end || !std::isfinite(value)) return std::nullopt;
    if (!last) text.remove_prefix(end + 1);
  }
  return out;
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

const at::Tensor& ConditioningChange::vector(double t) {
  at::Tensor& vector = vectors_[t];
  if (!vector.defined()) vector = embedding_(t);
  return vector;
}

double ConditioningChange::size(double t) { return at::mean(at::abs(vector(t))).item<double>(); }

double ConditioningChange::between(double from, double to) {
  if (from == to) return 0;
  const auto [found, added] = changes_.try_emplace({from, to}, 0.0);
  if (added) found->second = at::mean(at::abs(vector(to) - vector(from))).item<double>();
  return found->second;
}

}  // namespace longtake
