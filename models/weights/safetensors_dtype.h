// The dtype names of .safetensors files.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <string_view>

namespace longtake {

// "BF16" -> at::kBFloat16; nullopt where unknown.
std::optional<at::ScalarType> safetensors_dtype(std::string_view name);
// The reverse; nullopt where the format has no name for it.
std::optional<std::string> safetensors_dtype_name(at::ScalarType dtype);
// "F64, F32, ...", for messages.
std::string safetensors_dtypes();

}  // namespace longtake
