// How far a result is off, and results that cannot be mistaken for written ones.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>

#include <limits>
#include <vector>

namespace longtake::test {

// |value - reference| / |reference| in float64; infinite where the value has a NaN (an element that was never written).
inline double relative_error(const at::Tensor& value, const at::Tensor& reference) {
  if (value.numel() == 0) return 0;
  const at::Tensor a = value.to(at::kCPU, at::kDouble), b = reference.to(at::kCPU, at::kDouble);
  const double error = ((a - b).norm() / b.norm()).item<double>();
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

// Room for a result, full of NaN.
inline at::Tensor poisoned(at::IntArrayRef sizes, const at::TensorOptions& options) {
  return at::full(sizes, std::numeric_limits<double>::quiet_NaN(), options);
}

// One rounding to the dtype, with some room.
inline double rounding(at::ScalarType dtype) { return dtype == at::kFloat ? 2e-6 : dtype == at::kHalf ? 1e-3 : 6e-3; }

}  // namespace longtake::test
