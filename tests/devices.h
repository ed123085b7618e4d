// The devices and dtypes that parameterised tests sweep.
#pragma once

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>

#include <dlfcn.h>

#include <vector>

namespace longtake {

// As the program does it (runtime/device.h): LibTorch's CUDA half where it can be loaded, before ATen is first asked for it.
inline const bool kCudaLoaded = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr;

inline std::vector<at::Device> test_devices() {
  std::vector<at::Device> devices{at::kCPU};
  if (kCudaLoaded && at::hasCUDA()) devices.emplace_back(at::kCUDA, 0);
  return devices;
}

inline std::vector<at::ScalarType> test_dtypes() { return {at::kFloat, at::kBFloat16}; }

}  // namespace longtake
