#include "video_io/lpips.h"

#include "base/error.h"
#include "video_io/frames.h"

#include <ATen/TensorOperators.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>

namespace longtake {
namespace {

constexpr int64_t kPixelsAtOnce = 1 << 21;

// One line of an exception that carries a back trace.
std::string first_line(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

at::Tensor pictures(const at::Tensor& frames, int64_t first, int64_t count, const at::Device& device) {
  return from_frames(frames.narrow(0, first, count).to(device)).transpose(0, 1).contiguous();
}

}  // namespace

struct Lpips::Module {
  mutable torch::jit::Module module;
};

Lpips::Lpips(const std::filesystem::path& path, const at::Device& device)
    : device_(device), name_(path.filename().string()) {
  if (!std::filesystem::is_regular_file(path))
    fail_file("{} does not exist or is no file; give --lpips a TorchScript module", path.string());
  try {
    module_ = std::make_unique<Module>(Module{torch::jit::load(path.string(), device)});
    module_->module.eval();
  } catch (const std::exception& error) {
    fail_file("{} is not a TorchScript module ({}); save one with torch.jit.trace(...).save(FILE)", path.string(),
              first_line(error));
  }
}

Lpips::~Lpips() = default;
Lpips::Lpips(Lpips&&) noexcept = default;

std::vector<double> Lpips::distance(const at::Tensor& reference, const at::Tensor& test) const {
  check_frames(reference, "the reference frames");
  check_frames(test, "the tested frames");
  LONGTAKE_CHECK(reference.sizes() == test.sizes(), "expected two videos of one shape");
  std::vector<double> distances;
  const int64_t frames = reference.size(0);
  const int64_t batch = std::clamp<int64_t>(kPixelsAtOnce / (reference.size(1) * reference.size(2)), 1, 32);
  for (int64_t first = 0; first < frames; first += batch) {
    const int64_t count = std::min(batch, frames - first);
    at::Tensor result;
    try {
      result =
          module_->module.forward({pictures(reference, first, count, device_), pictures(test, first, count, device_)})
              .toTensor();
    } catch (const std::exception& error) {
      fail_file("{} failed on pictures of {}x{} ({}); it must take two float tensors [n, 3, height, width]", name_,
                reference.size(1), reference.size(2), first_line(error));
    }
    result = result.detach().to(at::kDouble).cpu();
    if (result.numel() < 1 || (result.numel() > 1 && result.size(0) != count) || (result.numel() == 1 && count > 1))
      fail_file(
          "{} returned {} numbers for {} pictures; it must return one distance (or one map of distances) for each",
          name_, result.numel(), count);
    const at::Tensor each = result.reshape({count, -1}).mean(1).contiguous();
    distances.insert(distances.end(), each.data_ptr<double>(), each.data_ptr<double>() + count);
  }
  for (const double value : distances)
    if (!std::isfinite(value)) fail(ExitCode::numerical, "{} returned a distance that is not finite", name_);
  return distances;
}

}  // namespace longtake
