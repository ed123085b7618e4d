// Small host tensors (indices, timesteps) onto a device without waiting for it.
#pragma once

#include <ATen/core/Tensor.h>

namespace longtake {

// `host` on `device`. To CUDA through page-locked memory, so that the host does not wait for the work that the device
// still has to do; anywhere else as Tensor::to.
inline at::Tensor upload(const at::Tensor& host, const at::Device& device) {
  if (!host.is_cpu() || !device.is_cuda()) return host.to(device);
  return host.pin_memory().to(device, /*non_blocking=*/true);
}

}  // namespace longtake
