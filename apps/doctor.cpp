// longtake doctor: what this machine and this build can do, and a short self-test.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/Version.h>
#include <ATen/ops/ones.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "apps/commands.h"
#include "attention/attend.h"
#include "base/error.h"
#include "runtime/device.h"
#include "runtime/noise.h"
#include "runtime/progress.h"
#include "runtime/recipe.h"

namespace longtake {
namespace {

// Attention over equal keys is the mean of the values: true on any device.
bool attention_works(const at::Device& device, at::ScalarType dtype) {
  const at::Tensor v = normal(1, 1, {7, 2, 16}).to(device).to(dtype);
  const at::Tensor q = at::ones({3, 2, 16}, v.options()), k = at::ones({7, 2, 16}, v.options());
  return (attend(q, k, v).to(at::kFloat) - v.to(at::kFloat).mean(0)).abs().max().item<float>() < 2e-2f;
}

void run_doctor() {
  fmt::print("longtake {}\n", kVersion);
  const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  fmt::print("CPU: {} threads, {} of memory\n", at::get_num_threads(), format_bytes(memory));
  fmt::print("disk: {} free here\n", format_bytes(static_cast<double>(std::filesystem::space(".").available)));
#ifdef LONGTAKE_VIDEO_IO
  fmt::print("video: FFmpeg and OpenCV are built in\n");
#else
  fmt::print("video: not built in (LONGTAKE_VIDEO_IO is off)\n");
#endif
  at::Device device = at::kCPU;
  try {
    device = open_device("cuda");
    fmt::print("GPU: usable through LibTorch\n");
  } catch (const Error& error) {
    fmt::print("GPU: none ({})\n", error.what());
  }
  bool good = true;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) good = good && attention_works(at::kCPU, dtype) && attention_works(device, dtype);
  fmt::print("self-test: {}\n", good ? "passed" : "FAILED");
  int ready = 0;
  const ModelSearch search = default_search();
  for (const Recipe& recipe : list_recipes(search)) ready += resolve_model(recipe.name, search).files.has_value();
  fmt::print("models: {} with files (longtake models lists them)\n", ready);
  if (!good) fail(ExitCode::numerical, "attention gives wrong values here; reinstall LibTorch (scripts/setup.sh)");
}

}  // namespace

void add_doctor(CLI::App& program) {
  program.add_subcommand("doctor", "Check this machine and this build")->callback(run_doctor);
}

}  // namespace longtake
