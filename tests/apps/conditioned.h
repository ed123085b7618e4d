// What the tests of pictures, videos and prompts over time share.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "models/weights/checkpoint.h"
#include "tests/apps/program.h"
#include "tests/catch.h"

namespace longtake {

// Of an output "x.safetensors".
inline at::Tensor tensor_of(const std::filesystem::path& file, const std::string& name) { return Checkpoint::open(file).tensor(name); }

// Between pictures of 0 ... 255; 100 where they are equal.
inline double psnr(const at::Tensor& a, const at::Tensor& b) {
  const double error = (a.to(at::kFloat) - b.to(at::kFloat)).square().mean().item<double>();
  return error == 0 ? 100 : 10 * std::log10(255 * 255 / error);
}

// Runs longtake and expects this status, and `what` among its messages.
inline ProgramResult check_run(const std::vector<std::string>& arguments, int status, const std::string& what) {
  ProgramResult run = run_longtake(arguments);
  INFO(run.err);
  CHECK(run.status == status);
  CHECK_THAT(run.err, Catch::Matchers::ContainsSubstring(what));
  return run;
}

}  // namespace longtake
