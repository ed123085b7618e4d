// How close two videos are: PSNR and SSIM, frame by frame.
//
// Frames: uint8 [T, H, W, 3], same shape, any device; values are taken as 0..1 (data range 1) in float64, on the CPU.
// PSNR: 10 log10(1 / MSE) over all three channels of a frame, at most kMaxPsnr (identical frames have an infinite one,
// which would swallow every mean). SSIM: Gaussian window of 11x11, sigma 1.5, K1 = 0.01, K2 = 0.03, population
// covariance, per channel, averaged over channels and over the *valid* area: what
// skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1,
// channel_axis=-1) returns, which crops 5 pixels on each side. Errors: usage where the shapes differ or sides are below
// 11 pixels.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

namespace longtake {

inline constexpr double kMaxPsnr = 100;  // dB

struct FrameQuality {
  std::vector<double> psnr, ssim;  // by frame
  double mean_psnr = 0, mean_ssim = 0;
  double pooled_psnr = 0;  // from the mean squared error over all frames
};

FrameQuality compare_frames(const at::Tensor& reference, const at::Tensor& test);

// The same against several references at once: what depends on the tested frames alone is computed once.
std::vector<FrameQuality> compare_frames(std::span<const at::Tensor> references, const at::Tensor& test);

}  // namespace longtake
