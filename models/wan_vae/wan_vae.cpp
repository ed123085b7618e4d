#include "models/wan_vae/wan_vae.h"

#include <ATen/ops/clamp.h>
#include <ATen/ops/tensor.h>

#include <span>

#include "base/error.h"
#include "models/wan_vae/latent_stats.h"
#include "models/weights/source.h"

namespace longtake {
namespace {

at::Tensor per_channel(std::span<const float> values, at::Device device) {
  const auto channels = static_cast<int64_t>(values.size());
  return at::tensor(at::ArrayRef<float>(values.data(), values.size())).view({1, channels, 1, 1, 1}).to(device);
}

}  // namespace

WanVae::WanVae(WeightSource& source) : WanVae(source, read_vae_sizes(source)) {}

WanVae::WanVae(WeightSource& source, const VaeSizes& sizes)
    : sizes_(sizes),
      encoder_(source, sizes.encoder, VaeCoder::Kind::encoder),
      decoder_(source, sizes.decoder, VaeCoder::Kind::decoder) {
  VaeLoader loader{source};
  conv1_ = PointConv(loader, "conv1", 2 * sizes.z_dim, 2 * sizes.z_dim);
  conv2_ = PointConv(loader, "conv2", sizes.z_dim, sizes.z_dim);
  if (sizes.z_dim != static_cast<int64_t>(kWanLatentMean.size())) {
    fail_file(
        "the VAE has {} latent channels (conv2.weight) where Wan 2.1 has {}, and the statistics of others are unknown; "
        "give a Wan 2.1 VAE",
        sizes.z_dim, kWanLatentMean.size());
  }
  mean_ = per_channel(kWanLatentMean, device());
  deviation_ = per_channel(kWanLatentDeviation, device());
}

at::Tensor WanVae::encode(const at::Tensor& video) const {
  return normalise(encode_moments(video).narrow(1, 0, sizes_.z_dim));
}

at::Tensor WanVae::encode_moments(const at::Tensor& video) const {
  check_video(video);
  const int64_t factor = sizes_.temporal_factor(), frames = video.size(2);
  if (frames % factor != 1 % factor) {
    const int64_t below = std::max<int64_t>((frames - 1) / factor * factor + 1, 1);
    fail_usage("a clip to encode has {}k + 1 frames, this one has {}; give {} or {}", factor, frames, below,
               below + factor);
  }
  return run_encoder(video, VaePass{});
}

at::Tensor WanVae::decode(const at::Tensor& latents) const { return decode_raw(latents).clamp(-1, 1); }

at::Tensor WanVae::decode_raw(const at::Tensor& latents) const {
  check_latents(latents);
  return run_decoder(latents, VaePass{});
}

at::Tensor WanVae::normalise(const at::Tensor& mean) const { return (mean.to(at::kFloat) - mean_) / deviation_; }

at::Tensor WanVae::denormalise(const at::Tensor& latents) const {
  return latents.to(latents.options().device(device()).dtype(at::kFloat)) * deviation_ + mean_;
}

void WanVae::check_video(const at::Tensor& video) const {
  const int64_t factor = sizes_.spatial_factor();
  if (video.dim() != 5 || video.size(1) != sizes_.encoder.input || video.size(0) < 1 || video.size(2) < 1 ||
      !video.is_floating_point()) {
    fail_usage(
        "a video to encode is a floating-point tensor [batch, {}, frames, height, width], this one is {} {}; convert "
        "it first",
        sizes_.encoder.input, toString(video.scalar_type()), fmt::join(video.sizes(), "x"));
  }
  const int64_t height = video.size(3), width = video.size(4);
  if (height < 1 || width < 1 || height % factor != 0 || width % factor != 0) {
    const auto fit = [&](int64_t size) { return std::max(factor, (size + factor / 2) / factor * factor); };
    fail_usage(
        "a video to encode has a height and width divisible by {}, this one is {}x{} (width x height); resize it to "
        "{}x{}",
        factor, width, height, fit(width), fit(height));
  }
}

void WanVae::check_latents(const at::Tensor& latents) const {
  if (latents.dim() != 5 || latents.size(1) != sizes_.z_dim || latents.numel() == 0 || !latents.is_floating_point()) {
    fail_usage(
        "latents to decode are a floating-point tensor [batch, {}, latent frames, height/{}, width/{}], these are {} "
        "{}; check which model made them",
        sizes_.z_dim, sizes_.spatial_factor(), sizes_.spatial_factor(), toString(latents.scalar_type()),
        fmt::join(latents.sizes(), "x"));
  }
}

at::Tensor WanVae::run_encoder(const at::Tensor& video, const VaePass& pass) const {
  return conv1_(encoder_(video.to(device(), dtype()), pass));
}

at::Tensor WanVae::run_decoder(const at::Tensor& latents, const VaePass& pass) const {
  return decoder_(conv2_(denormalise(latents).to(dtype())), pass);
}

}  // namespace longtake
