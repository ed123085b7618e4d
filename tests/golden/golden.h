// Golden tensors of the reference programs: where they are, and comparisons that print how much of the tolerance they used.
//
// The root comes from the variable LONGTAKE_GOLDEN; tests skip where it is unset.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "models/weights/checkpoint.h"
#include "models/weights/checkpoint_source.h"
#include "tests/catch.h"

namespace longtake::golden {

// LONGTAKE_GOLDEN/skyreels, or empty where the variable is unset or the folder is not there.
inline std::filesystem::path skyreels() {
  const char* root = std::getenv("LONGTAKE_GOLDEN");
  if (!root) return {};
  const auto folder = std::filesystem::path(root) / "skyreels";
  return std::filesystem::is_directory(folder) ? folder : std::filesystem::path();
}

#define LONGTAKE_GOLDEN_OR_SKIP(root) \
  if ((root).empty()) LONGTAKE_SKIP("LONGTAKE_GOLDEN is unset or has no folder skyreels: golden tests skipped")

inline CheckpointSource float32_source(const std::filesystem::path& file) {
  return CheckpointSource(Checkpoint::open(file), {}, at::kCPU, at::kFloat);
}

// Largest absolute difference over the largest absolute reference value; infinite for shapes that differ or NaN.
double relative_error(const at::Tensor& value, const at::Tensor& reference);

// Prints "name: error e, tolerance t (p % used)" and returns whether e <= t.
bool within(const std::string& name, const at::Tensor& value, const at::Tensor& reference, double tolerance);

}  // namespace longtake::golden
