// The kernels that attention of rows can take on a device, each to be tested by itself.
#pragma once

#include <vector>

#include "attention/planned_attention.h"
#include "tests/devices.h"

namespace longtake::test {

inline std::vector<PlannedAttention::Kernels> attention_kernels(const at::Device& device) {
  if (!device.is_cuda()) return {PlannedAttention::Kernels::fastest};
  return {PlannedAttention::Kernels::cudnn, PlannedAttention::Kernels::fastest};
}

}  // namespace longtake::test
