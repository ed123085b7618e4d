// The devices and dtypes that parameterised tests sweep.
#pragma once

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>

#include <vector>

namespace longtake {

inline std::vector<at::Device> test_devices() {
  std::vector<at::Device> devices{at::kCPU};
  if (at::hasCUDA()) devices.emplace_back(at::kCUDA, 0);
  return devices;
}

inline std::vector<at::ScalarType> test_dtypes() { return {at::kFloat, at::kBFloat16}; }

}  // namespace longtake
