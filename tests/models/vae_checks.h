// What the tests of the VAEs share.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "tests/catch.h"

namespace longtake::test {

inline at::Tensor random(std::vector<int64_t> shape, uint64_t seed = 7) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::kFloat);
}

inline at::Tensor random_video(std::vector<int64_t> shape) { return random(std::move(shape)).mul_(0.5).clamp_(-1, 1); }

// The largest.
inline double difference(const at::Tensor& a, const at::Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return (a.to(at::kFloat) - b.to(at::kFloat)).abs().max().item<double>();
}

// Each of `weights` has a finite gradient that is not 0 everywhere.
inline void check_gradients(const std::map<std::string, at::Tensor>& weights) {
  for (const auto& [name, tensor] : weights) {
    INFO(name);
    REQUIRE(tensor.grad().defined());
    CHECK(std::isfinite(tensor.grad().abs().max().item<double>()));
    CHECK(tensor.grad().abs().max().item<double>() > 0);
  }
}

// The largest sum of CPU tensor bytes while it lives.
class PeakMemory : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device) override {
    now += bytes;
    peak = std::max(peak, now);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t now = 0, peak = 0;
};

}  // namespace longtake::test
