#include "video_io/metrics.h"

#include "base/error.h"
#include "models/weights/checkpoint.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

using namespace longtake;

namespace {

constexpr int kHeight = 29, kWidth = 37;

// Two 8-bit images by integer formulas, so that another language draws the very same.
void draw(at::Tensor& image, at::Tensor& noisy) {
  image = at::zeros({kHeight, kWidth, 3}, at::kByte);
  noisy = at::zeros({kHeight, kWidth, 3}, at::kByte);
  int64_t i = 0;
  for (int h = 0; h < kHeight; ++h)
    for (int w = 0; w < kWidth; ++w)
      for (int c = 0; c < 3; ++c, ++i) {
        const int value = (h * h * 3 + w * w * 2 + h * w + c * 40) / 8 % 256;
        const int noise = (h * 31 + w * 17 + c * 7 + h * w % 13 * 5) % 41 - 20;
        image.data_ptr<uint8_t>()[i] = static_cast<uint8_t>(value);
        noisy.data_ptr<uint8_t>()[i] = static_cast<uint8_t>(std::clamp(value + noise, 0, 255));
      }
}

}  // namespace

TEST_CASE("PSNR and SSIM agree with scikit-image") {
  at::Tensor image, noisy;
  draw(image, noisy);
  const at::Tensor flat = at::full_like(image, 128);
  const at::Tensor darker = (image.to(at::kInt) * 3).div(4, "floor").to(at::kByte);
  const FrameQuality quality =
      compare_frames(at::stack({image, image, image, image}), at::stack({noisy, flat, darker, image}));
  // skimage 0.26 structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1,
  // channel_axis=-1) and peak_signal_noise_ratio(data_range=1) on x / 255.0.
  const double ssim[] = {0.9116722219904908, 0.07158355319211002, 0.9224527100519877, 1.0};
  const double psnr[] = {26.848895391430602, 10.756806986911238, 17.46787441952526, kMaxPsnr};
  double worst = 0;
  for (int i = 0; i < 4; ++i) {
    CHECK(std::abs(quality.ssim[i] - ssim[i]) < 1e-9);
    CHECK(std::abs(quality.psnr[i] - psnr[i]) < 1e-9);
    worst = std::max({worst, std::abs(quality.ssim[i] - ssim[i]), std::abs(quality.psnr[i] - psnr[i])});
  }
  WARN("largest difference from scikit-image " << worst << ", " << 100 * worst / 1e-9 << " % of the tolerance");
  CHECK(std::abs(quality.mean_ssim - (ssim[0] + ssim[1] + ssim[2] + ssim[3]) / 4) < 1e-9);
  CHECK(std::abs(quality.mean_psnr - (psnr[0] + psnr[1] + psnr[2] + psnr[3]) / 4) < 1e-9);
  const double pooled = (std::pow(10, -psnr[0] / 10) + std::pow(10, -psnr[1] / 10) + std::pow(10, -psnr[2] / 10)) / 4;
  CHECK(std::abs(quality.pooled_psnr + 10 * std::log10(pooled)) < 1e-9);
}

TEST_CASE("PSNR and SSIM agree with scikit-image and torchmetrics on natural film") {
  // tests/data/metrics/make_metrics.py made the clips and the numbers.
  const auto folder = std::filesystem::path(LONGTAKE_SOURCE_DIR) / "tests/data/metrics";
  const at::Tensor reference = Checkpoint::open(folder / "reference.safetensors").tensor("frames");
  const at::Tensor test = Checkpoint::open(folder / "test.safetensors").tensor("frames");
  std::ifstream file(folder / "golden.json");
  const auto golden = nlohmann::json::parse(file);
  const FrameQuality quality = compare_frames(reference, test);
  REQUIRE(quality.psnr.size() == golden["psnr"].size());
  for (size_t t = 0; t < quality.psnr.size(); ++t) {
    CHECK(std::abs(quality.psnr[t] - golden["psnr"][t].get<double>()) < 1e-9);
    CHECK(std::abs(quality.ssim[t] - golden["ssim"][t].get<double>()) < 1e-9);
    CHECK(std::abs(quality.ssim[t] - golden["torchmetrics_ssim"][t].get<double>()) < 1e-9);
  }
  CHECK(std::abs(quality.pooled_psnr - golden["psnr_pooled"].get<double>()) < 1e-9);
}

TEST_CASE("several references at once give what each gives alone, in any layout") {
  const at::Tensor a = smooth_clip(3, 24, 32), b = (a.to(at::kInt) / 2).to(at::kByte), c = a.flip(2);
  const std::vector<at::Tensor> references{b, c};
  const auto together = compare_frames(references, a);
  REQUIRE(together.size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    const FrameQuality alone = compare_frames(references[i], a), swapped = compare_frames(a, references[i]);
    CHECK(together[i].psnr == alone.psnr);
    CHECK(together[i].ssim == alone.ssim);
    CHECK(std::abs(swapped.mean_ssim - alone.mean_ssim) < 1e-12);
    CHECK(std::abs(swapped.pooled_psnr - alone.pooled_psnr) < 1e-12);
  }
  // Frames that are not contiguous: every second one of a longer clip.
  const at::Tensor longer = smooth_clip(6, 24, 32);
  CHECK(compare_frames(longer.slice(0, 0, 6, 2), longer.slice(0, 0, 6, 2).contiguous()).mean_psnr == kMaxPsnr);
  CHECK(compare_frames(std::span<const at::Tensor>{}, a).empty());
}

TEST_CASE("videos that cannot be compared are usage errors") {
  const auto code = [](const at::Tensor& a, const at::Tensor& b) {
    try {
      compare_frames(a, b);
    } catch (const Error& error) {
      return error.code();
    }
    return ExitCode::ok;
  };
  const auto clip = [](int64_t t, int64_t h, int64_t w) { return at::zeros({t, h, w, 3}, at::kByte); };
  CHECK(code(clip(2, 16, 16), clip(2, 16, 16)) == ExitCode::ok);
  CHECK(code(clip(2, 16, 16), clip(3, 16, 16)) == ExitCode::usage);
  CHECK(code(clip(2, 16, 16), clip(2, 16, 18)) == ExitCode::usage);
  CHECK(code(clip(2, 10, 16), clip(2, 10, 16)) == ExitCode::usage);
  CHECK(code(clip(0, 16, 16), clip(0, 16, 16)) == ExitCode::usage);
}
