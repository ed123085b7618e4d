// What the programs' parts measure with.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <vector>

namespace longtake::bench {

inline const at::Device kGpu(at::kCUDA, 0);

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline c10::Stream stream() { return c10::impl::VirtualGuardImpl(at::kCUDA).getStream(kGpu); }

// Device time of one call, in milliseconds.
inline double timed(const std::function<void()>& run) {
  c10::Event begin(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT), end(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT);
  begin.record(stream());
  run();
  end.record(stream());
  end.synchronize();
  return begin.elapsedTime(end);
}

// Median over calls with a cold second-level cache.
inline double median_ms(const std::function<void()>& run, int repeats = 9) {
  const at::Tensor flush = at::empty({256 << 20}, at::TensorOptions().dtype(at::kByte).device(kGpu));
  for (int i = 0; i < 2; ++i) run();
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    flush.zero_();
    times.push_back(timed(run));
  }
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[repeats / 2];
}

inline double relative_error(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (a[i].to(at::kFloat) - b[i].to(at::kFloat)).pow(2).sum().item<double>();
    size += b[i].to(at::kFloat).pow(2).sum().item<double>();
  }
  return std::sqrt(error / size);
}

}  // namespace longtake::bench
