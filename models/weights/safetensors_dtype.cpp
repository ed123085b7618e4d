#include "models/weights/safetensors_dtype.h"

#include <array>
#include <utility>

namespace longtake {
namespace {

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 12> table{{
    {"F64", at::kDouble},
    {"F32", at::kFloat},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"I64", at::kLong},
    {"I32", at::kInt},
    {"I16", at::kShort},
    {"I8", at::kChar},
    {"U8", at::kByte},
    {"BOOL", at::kBool},
    {"F8_E4M3", at::kFloat8_e4m3fn},
    {"F8_E5M2", at::kFloat8_e5m2},
}};

}  // namespace

std::optional<at::ScalarType> safetensors_dtype(std::string_view name) {
  for (const auto& [known, dtype] : table) {
    if (known == name) return dtype;
  }
  return std::nullopt;
}

std::optional<std::string> safetensors_dtype_name(at::ScalarType dtype) {
  for (const auto& [name, known] : table) {
    if (known == dtype) return std::string(name);
  }
  return std::nullopt;
}

std::string safetensors_dtypes() {
  std::string text;
  for (const auto& [name, dtype] : table) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

}  // namespace longtake
