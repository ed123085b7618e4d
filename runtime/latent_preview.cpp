#include "runtime/latent_preview.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <Eigen/Cholesky>

#include "base/error.h"
#include "runtime/noise.h"

namespace longtake {
namespace {

constexpr int64_t kSide = 128;  // of a fitting clip, in pixels
constexpr double kRidge = 1e-3;  // in units of the variance that latents have
constexpr uint64_t kSeed = 0x70726576;

// Random colours that are constant over squares of `square` pixels, [3, first + later, kSide, kSide] in [-1, 1]: half of them change from
// the first frames to the later ones.
at::Tensor patches(int64_t square, int64_t first_frames, int64_t later_frames) {
  const at::Tensor coarse = normal(kSeed, static_cast<uint64_t>(square), {2, 3, kSide / square, kSide / square}).clamp(-1, 1);
  const at::Tensor fine = at::upsample_nearest2d(coarse, {kSide, kSide}).unsqueeze(2);  // [2, 3, 1, kSide, kSide]
  const at::Tensor first = fine[0], later = at::cat({fine[0].narrow(2, 0, kSide / 2), fine[1].narrow(2, kSide / 2, kSide / 2)}, 2);
  return at::cat({first.expand({3, first_frames, kSide, kSide}), later.expand({3, later_frames, kSide, kSide})}, 1);
}

// [C, n, h, w] -> [n * h * w, C], float32 on the CPU.
at::Tensor as_rows(const at::Tensor& x) { return x.to(at::kFloat).cpu().permute({1, 2, 3, 0}).reshape({-1, x.size(0)}); }

}  // namespace

at::Tensor latent_colours(const at::Tensor& frames, bool first_alone) {
  const int64_t n = frames.size(1), height = frames.size(2), width = frames.size(3), alone = first_alone ? 1 : 0;
  LONGTAKE_CHECK(n % 4 == alone && height % 8 == 0 && width % 8 == 0, "expected 4k + {} frames with sides of 8k, found {} of {}x{}", alone, n,
                 height, width);
  const at::Tensor small = frames.to(at::kFloat).reshape({3, n, height / 8, 8, width / 8, 8}).mean(at::IntArrayRef{3, 5});
  if (n == alone) return small;
  const at::Tensor later = small.narrow(1, alone, n - alone).reshape({3, (n - alone) / 4, 4, height / 8, width / 8}).mean(2);
  return first_alone ? at::cat({small.narrow(1, 0, 1), later}, 1) : later;
}

LatentPreview::LatentPreview(const WanVae& vae)
    : LatentPreview([&](const at::Tensor& frames) { return vae.encode(frames.unsqueeze(0).to(vae.device())).squeeze(0); },
                    [&](const at::Tensor& latents) { return vae.decode(latents.unsqueeze(0)).squeeze(0); }, /*first_alone=*/true) {}

LatentPreview::LatentPreview(const Coding& encode, const Coding& decode, bool first_alone) {
  std::vector<at::Tensor> inputs, outputs;
  for (const int64_t square : {8, 16, 32, 128}) {
    const at::Tensor latents = encode(patches(square, first_alone ? 1 : 4, 4));
    inputs.push_back(as_rows(latents));
    outputs.push_back(as_rows(latent_colours(decode(latents), first_alone)));
  }
  const at::Tensor x = at::cat(inputs).contiguous(), y = at::cat(outputs).contiguous();
  const int64_t channels = x.size(1);
  using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Eigen::MatrixXd a(x.size(0), channels + 1);
  a.leftCols(channels) = Eigen::Map<const Rows>(x.const_data_ptr<float>(), x.size(0), channels).cast<double>();
  a.rightCols(1).setOnes();
  const Eigen::MatrixXd b = Eigen::Map<const Rows>(y.const_data_ptr<float>(), y.size(0), 3).cast<double>();
  // A little ridge: a channel that does not vary on these clips must not get a weight of any size.
  Eigen::MatrixXd normal_matrix = a.transpose() * a;
  normal_matrix.diagonal().array() += kRidge * static_cast<double>(x.size(0));
  const Rows solution = normal_matrix.ldlt().solve(a.transpose() * b).cast<float>();
  map_ = at::empty({channels + 1, 3}, at::kFloat);
  std::copy_n(solution.data(), solution.size(), map_.mutable_data_ptr<float>());
}

at::Tensor LatentPreview::colours(const at::Tensor& latents) const {
  const int64_t channels = map_.size(0) - 1;
  LONGTAKE_CHECK(latents.dim() == 4 && latents.size(0) == channels, "expected latents [{}, n, h, w]", channels);
  const at::Tensor rgb = at::matmul(as_rows(latents), map_.narrow(0, 0, channels)) + map_[channels];
  return rgb.reshape({latents.size(1), latents.size(2), latents.size(3), 3}).permute({3, 0, 1, 2}).contiguous();
}

at::Tensor LatentPreview::picture(const at::Tensor& latents, int64_t scale) const {
  const at::Tensor rgb = ((colours(latents) / 2 + 0.5).clamp(0, 1) * 255).permute({1, 0, 2, 3});  // [n, 3, h, w]
  const at::Tensor large = at::upsample_nearest2d(rgb, {latents.size(2) * scale, latents.size(3) * scale}).to(at::kByte);
  return large.permute({2, 0, 3, 1}).reshape({large.size(2), -1, 3}).contiguous();
}

}  // namespace longtake
