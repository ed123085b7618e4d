// What the ops on packed rows ask of their tensors before a kernel takes them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <initializer_list>

#include "base/error.h"

namespace longtake {

inline bool is_row_dtype(at::ScalarType t) { return t == at::kFloat || t == at::kHalf || t == at::kBFloat16; }

// gain and bias [width] float32 beside x.
inline void check_affine(const at::Tensor& gain, const at::Tensor& bias, const at::Tensor& x, int64_t width) {
  for (const at::Tensor* t : {&gain, &bias})
    LONGTAKE_CHECK(t->dim() == 1 && t->size(0) == width && t->scalar_type() == at::kFloat && t->device() == x.device(),
                   "expected gain and bias [{}] float32 on {}, found [{}] {} on {}", width, x.device().str(), fmt::join(t->sizes(), ", "),
                   c10::toString(t->scalar_type()), t->device().str());
}

// For 16-byte accesses.
inline bool aligned(const at::Tensor& x) { return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0; }
inline bool dense_aligned(std::initializer_list<at::Tensor> tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const at::Tensor& x) { return x.is_contiguous() && aligned(x); });
}

// Kernels have no backward pass.
inline bool records_gradient(std::initializer_list<at::Tensor> tensors) {
  return at::GradMode::is_enabled() && std::any_of(tensors.begin(), tensors.end(), [](const at::Tensor& x) { return x.requires_grad(); });
}

}  // namespace longtake
