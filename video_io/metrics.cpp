#include "video_io/metrics.h"

#include "base/error.h"
#include "video_io/frames.h"

#include <ATen/TensorOperators.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace longtake {
namespace {

constexpr int kWindow = 11;

std::array<double, kWindow> gaussian_window() {
  std::array<double, kWindow> weights;
  for (int i = 0; i < kWindow; ++i) weights[i] = std::exp(-0.5 * std::pow((i - kWindow / 2) / 1.5, 2));
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= sum;
  return weights;
}

// Weighted mean under the window along one dimension, which shrinks by 10: shifted sums run alike on every device.
at::Tensor blur(const at::Tensor& image, int64_t dim) {
  static const std::array<double, kWindow> weights = gaussian_window();
  const int64_t length = image.size(dim) - kWindow + 1;
  at::Tensor sum = image.narrow(dim, 0, length) * weights[0];
  for (int i = 1; i < kWindow; ++i) sum.add_(image.narrow(dim, i, length), weights[i]);
  return sum;
}

at::Tensor blur(const at::Tensor& image) { return blur(blur(image, 0), 1); }

double ssim_of(const at::Tensor& x, const at::Tensor& y) {
  constexpr double c1 = 0.01 * 0.01, c2 = 0.03 * 0.03;
  const at::Tensor mean_x = blur(x), mean_y = blur(y);
  const at::Tensor mean_xy = mean_x * mean_y, mean_xx = mean_x * mean_x, mean_yy = mean_y * mean_y;
  const at::Tensor covariance = blur(x * y) - mean_xy;
  const at::Tensor variances = blur(x * x) + blur(y * y) - mean_xx - mean_yy;
  const at::Tensor map = (2 * mean_xy + c1) * (2 * covariance + c2) / ((mean_xx + mean_yy + c1) * (variances + c2));
  return map.mean().item<double>();
}

double psnr_of(double mean_squared_error) {
  return mean_squared_error <= 0 ? kMaxPsnr : std::min(kMaxPsnr, -10 * std::log10(mean_squared_error));
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

FrameQuality compare_frames(const at::Tensor& reference, const at::Tensor& test) {
  check_frames(reference, "the reference frames");
  check_frames(test, "the tested frames");
  if (reference.sizes() != test.sizes())
    fail_usage(
        "cannot compare videos of different shape: {} frames of {}x{} against {} of {}x{}; use runs with the same "
        "--frames and --size",
        reference.size(0), reference.size(2), reference.size(1), test.size(0), test.size(2), test.size(1));
  if (reference.size(0) < 1 || reference.size(1) < kWindow || reference.size(2) < kWindow)
    fail_usage("cannot compare {} frames of {}x{}: SSIM needs a frame and sides of at least {} pixels",
               reference.size(0), reference.size(2), reference.size(1), kWindow);
  FrameQuality quality;
  std::vector<double> errors;
  for (int64_t t = 0; t < reference.size(0); ++t) {
    const at::Tensor x = reference[t].to(at::kDouble) / 255, y = test[t].to(at::kDouble) / 255;
    errors.push_back((x - y).square().mean().item<double>());
    quality.psnr.push_back(psnr_of(errors.back()));
    quality.ssim.push_back(ssim_of(x, y));
  }
  quality.mean_psnr = mean(quality.psnr);
  quality.mean_ssim = mean(quality.ssim);
  quality.pooled_psnr = psnr_of(mean(errors));
  return quality;
}

}  // namespace longtake
