// Golden tensors of the reference programs: where they are, and comparisons that print how much of the tolerance they
// used.
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
#include "tests/devices.h"

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

// What a comparison runs on, and how far it may be off there.
struct Target {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;

  std::string name() const;  // "", " bf16", " cuda fp32", " cuda bf16": behind the name of a comparison
  // The tolerance in float32; bfloat16 keeps 8 bits of every product.
  double tolerance(double float32, double bfloat16) const { return dtype == at::kFloat ? float32 : bfloat16; }
};

// float32 on the CPU; where there is a GPU, float32 (without TF32) and bfloat16 on it too.
std::vector<Target> targets();

inline CheckpointSource source_of(const std::filesystem::path& file, const Target& target) {
  return CheckpointSource(Checkpoint::open(file), {}, target.device, target.dtype);
}

// Largest absolute difference over the largest absolute reference value; infinite for shapes that differ or NaN.
double relative_error(const at::Tensor& value, const at::Tensor& reference);

// Prints "name: error e, tolerance t (p % used)" and returns whether e <= t.
bool within(const std::string& name, const at::Tensor& value, const at::Tensor& reference, double tolerance);

}  // namespace longtake::golden
