#include "tests/golden/golden.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/max.h>
#include <ATen/ops/norm.h>
#include <fmt/core.h>

#include <cmath>
#include <limits>

namespace longtake::golden {

double relative_error(const at::Tensor& value, const at::Tensor& reference) {
  if (value.numel() != reference.numel()) return std::numeric_limits<double>::infinity();
  const at::Tensor a = value.to(at::kCPU, at::kDouble).reshape({-1}),
                   b = reference.to(at::kCPU, at::kDouble).reshape({-1});
  const double error = (a - b).abs().max().item<double>() / std::max(b.abs().max().item<double>(), 1e-30);
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

double norm_error(const at::Tensor& value, const at::Tensor& reference) {
  if (value.numel() != reference.numel()) return std::numeric_limits<double>::infinity();
  const at::Tensor a = value.to(at::kCPU, at::kDouble).reshape({-1}),
                   b = reference.to(at::kCPU, at::kDouble).reshape({-1});
  const double error = (a - b).norm().item<double>() / std::max(b.norm().item<double>(), 1e-30);
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

std::string Target::name() const {
  if (device.is_cpu()) return dtype == at::kFloat ? "" : " bf16";
  return dtype == at::kFloat ? " cuda fp32" : " cuda bf16";
}

std::vector<Target> targets() {
  std::vector<Target> out;
  for (const at::Device& device : test_devices()) {
    out.push_back({device, at::kFloat});
    if (!device.is_cuda()) continue;
    at::globalContext().setAllowTF32CuDNN(false);
    out.push_back({device, at::kBFloat16});
  }
  return out;
}

namespace {

bool report(const std::string& name, double error, double tolerance) {
  fmt::print("  {:<44} error {:.2e}, tolerance {:.0e} ({:.1f} % used)\n", name, error, tolerance,
             100 * error / tolerance);
  return error <= tolerance;
}

}  // namespace

bool within(const std::string& name, const at::Tensor& value, const at::Tensor& reference, double tolerance) {
  return report(name, relative_error(value, reference), tolerance);
}

bool within_norm(const std::string& name, const at::Tensor& value, const at::Tensor& reference, double tolerance) {
  return report(name, norm_error(value, reference), tolerance);
}

}  // namespace longtake::golden
