#include "video_io/metrics.h"

#include "base/error.h"
#include "video_io/frames.h"

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace longtake {
namespace {

constexpr int kWindow = 11, kMargin = kWindow / 2;

const cv::Mat& gaussian_window() {
  static const cv::Mat weights = [] {
    cv::Mat w(kWindow, 1, CV_64F);
    for (int i = 0; i < kWindow; ++i) w.at<double>(i) = std::exp(-0.5 * std::pow((i - kMargin) / 1.5, 2));
    return cv::Mat(w / cv::sum(w)[0]);
  }();
  return weights;
}

// Weighted mean under the window; the border, where the window hangs over, is cut.
cv::Mat blur(const cv::Mat& image) {
  cv::Mat blurred;
  cv::sepFilter2D(image, blurred, CV_64F, gaussian_window(), gaussian_window(), {-1, -1}, 0, cv::BORDER_REPLICATE);
  return blurred(cv::Rect(kMargin, kMargin, image.cols - 2 * kMargin, image.rows - 2 * kMargin));
}

// What SSIM needs of one frame alone.
struct Moments {
  cv::Mat image;         // double, 0..1, three channels
  cv::Mat mean, square;  // blurred image and blurred squared image
};

Moments moments_of(const at::Tensor& frames, int64_t t) {
  const cv::Mat bytes(static_cast<int>(frames.size(1)), static_cast<int>(frames.size(2)), CV_8UC3,
                      frames.data_ptr<uint8_t>() + t * frames.stride(0));
  Moments m;
  bytes.convertTo(m.image, CV_64F, 1.0 / 255);
  m.mean = blur(m.image);
  m.square = blur(m.image.mul(m.image));
  return m;
}

double squared_error(const Moments& x, const Moments& y) {
  const double norm = cv::norm(x.image, y.image, cv::NORM_L2);
  return norm * norm / static_cast<double>(x.image.total() * 3);
}

double ssim_of(const Moments& x, const Moments& y) {
  constexpr double c1 = 0.01 * 0.01, c2 = 0.03 * 0.03;
  const cv::Mat product = blur(x.image.mul(y.image));
  double sum = 0;
  for (int row = 0; row < product.rows; ++row) {
    const double *mx = x.mean.ptr<double>(row), *my = y.mean.ptr<double>(row), *sx = x.square.ptr<double>(row),
                 *sy = y.square.ptr<double>(row), *xy = product.ptr<double>(row);
    for (int i = 0; i < product.cols * 3; ++i) {
      const double mean_xy = mx[i] * my[i], means = mx[i] * mx[i] + my[i] * my[i];
      sum += (2 * mean_xy + c1) * (2 * (xy[i] - mean_xy) + c2) / ((means + c1) * (sx[i] + sy[i] - means + c2));
    }
  }
  return sum / static_cast<double>(product.total() * 3);
}

double psnr_of(double mean_squared_error) {
  return mean_squared_error <= 0 ? kMaxPsnr : std::min(kMaxPsnr, -10 * std::log10(mean_squared_error));
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

void check_pair(const at::Tensor& reference, const at::Tensor& test) {
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
}

}  // namespace

std::vector<FrameQuality> compare_frames(std::span<const at::Tensor> references, const at::Tensor& test_in) {
  for (const at::Tensor& reference : references) check_pair(reference, test_in);
  if (references.empty()) return {};
  const at::Tensor test = test_in.cpu().contiguous();
  std::vector<at::Tensor> against;
  for (const at::Tensor& reference : references) against.push_back(reference.cpu().contiguous());

  const auto frames = static_cast<size_t>(test.size(0));
  std::vector<FrameQuality> result(against.size());
  std::vector<std::vector<double>> errors(against.size(), std::vector<double>(frames));
  for (FrameQuality& quality : result) quality.psnr.resize(frames), quality.ssim.resize(frames);
  cv::parallel_for_(cv::Range(0, static_cast<int>(frames)), [&](const cv::Range& range) {
    for (int t = range.start; t < range.end; ++t) {
      const Moments x = moments_of(test, t);
      for (size_t r = 0; r < against.size(); ++r) {
        const Moments y = moments_of(against[r], t);
        errors[r][t] = squared_error(x, y);
        result[r].psnr[t] = psnr_of(errors[r][t]);
        result[r].ssim[t] = ssim_of(x, y);
      }
    }
  });
  for (size_t r = 0; r < against.size(); ++r) {
    result[r].mean_psnr = mean(result[r].psnr);
    result[r].mean_ssim = mean(result[r].ssim);
    result[r].pooled_psnr = psnr_of(mean(errors[r]));
  }
  return result;
}

FrameQuality compare_frames(const at::Tensor& reference, const at::Tensor& test) {
  return compare_frames(std::span(&reference, 1), test).front();
}

}  // namespace longtake
