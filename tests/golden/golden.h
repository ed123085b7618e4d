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

// A folder of LONGTAKE_GOLDEN, or empty where the variable is unset or the folder is not there.
inline std::filesystem::path folder(const std::string& name) {
  const char* root = std::getenv("LONGTAKE_GOLDEN");
  if (!root) return {};
  const auto path = std::filesystem::path(root) / name;
  return std::filesystem::is_directory(path) ? path : std::filesystem::path();
}
inline std::filesystem::path skyreels() { return folder("skyreels"); }
inline std::filesystem::path magi() { return folder("magi"); }

#define LONGTAKE_GOLDEN_OR_SKIP(root) \
  if ((root).empty()) LONGTAKE_SKIP("LONGTAKE_GOLDEN is unset or lacks this model's folder: golden tests skipped")

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
// The norm of the difference over the norm of the reference; infinite likewise.
double norm_error(const at::Tensor& value, const at::Tensor& reference);

// Prints "name: error e, tolerance t (p % used)" and returns whether e <= t.
bool within(const std::string& name, const at::Tensor& value, const at::Tensor& reference, double tolerance);
bool within_norm(const std::string& name, const at::Tensor& value, const at::Tensor& reference, double tolerance);

}  // namespace longtake::golden
