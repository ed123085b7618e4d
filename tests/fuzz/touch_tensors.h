// Reads every element of every tensor, so that AddressSanitizer sees any that lies outside its file.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/weights/tensor_file.h"

namespace longtake::fuzz {

inline void touch_tensors(const TensorFile& file) {
  for (const TensorInfo& info : file.tensors()) {
    const at::Tensor tensor = file.tensor(info.name);
    if (tensor.numel() == 0) continue;
    // Summed by hand: kernels of LibTorch are not instrumented.
    const auto* data = static_cast<const volatile uint8_t*>(tensor.const_data_ptr());
    std::vector<int64_t> index(info.shape.size(), 0);
    const size_t item = tensor.element_size();
    for (int64_t n = 0; n < tensor.numel(); ++n) {
      int64_t at = 0;
      for (size_t d = 0; d < index.size(); ++d) at += index[d] * tensor.stride(static_cast<int64_t>(d));
      for (size_t byte = 0; byte < item; ++byte) (void)data[static_cast<size_t>(at) * item + byte];
      for (size_t d = index.size(); d-- > 0;) {
        if (++index[d] < info.shape[d]) break;
        index[d] = 0;
      }
    }
  }
}

}  // namespace longtake::fuzz
