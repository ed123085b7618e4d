#include "models/magi_vae/magi_vae.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "models/ops/convolve.h"
#include "models/weights/source.h"

namespace longtake {
namespace {

Linear take_linear(WeightSource& source, const std::string& name, int64_t out, int64_t in) {
  return {source.take(name + ".weight", {out, in}), source.take(name + ".bias", {out})};
}

// [B, C, t*pt, h*p, w*p] -> [B, t*h*w, C*pt*p*p], the order of the patch convolution's weight.
at::Tensor patches_of(const at::Tensor& video, const MagiVaeConfig& config) {
  const int64_t batch = video.size(0), channels = video.size(1), length = config.patch_length,
                patch = config.patch_size;
  const int64_t t = video.size(2) / length, h = video.size(3) / patch, w = video.size(4) / patch;
  return video.reshape({batch, channels, t, length, h, patch, w, patch})
      .permute({0, 2, 4, 6, 1, 3, 5, 7})
      .reshape({batch, t * h * w, channels * config.patch_pixels()});
}

}  // namespace

MagiVae::MagiVae(WeightSource& source, const MagiVaeConfig& config, MagiVaeParity parity)
    : config_(config),
      parity_(parity),
      encoder_(source, config, "encoder", parity.round_qkv),
      decoder_(source, config, "decoder", parity.round_qkv) {
  const int64_t dim = config.dim, patch = config.patch_size;
  const std::string name = "encoder.patch_embed.proj";
  patch_ = {source.take(name + ".weight", {dim, config.channels, config.patch_length, patch, patch}).reshape({dim, -1}),
            source.take(name + ".bias", {dim})};
  moments_ = take_linear(source, "encoder.last_layer", 2 * config.latent_channels, dim);
  latent_in_ = take_linear(source, "decoder.proj_in", dim, config.latent_channels);
  pixels_weight_ = source.take("decoder.last_layer.weight", {config.channels, config.pixel_values(), 3, 3, 3});
  pixels_bias_ = source.take("decoder.last_layer.bias", {config.channels});
}

at::Tensor MagiVae::encode_moments(const at::Tensor& video) const {
  check_video(video);
  const bool still = video.size(2) == 1;
  at::Tensor x = video.to(device(), dtype());
  if (still) x = x.expand({-1, -1, config_.patch_length, -1, -1});
  const int64_t batch = x.size(0), t = x.size(2) / config_.patch_length;
  const int64_t h = x.size(3) / config_.patch_size, w = x.size(4) / config_.patch_size;
  const at::Tensor tokens = encoder_(patch_(patches_of(x, config_)), {t, h, w});
  return moments_(tokens).to(at::kFloat).transpose(1, 2).reshape({batch, 2 * config_.latent_channels, t, h, w});
}

at::Tensor MagiVae::encode_mean(const at::Tensor& video) const {
  return encode_moments(video).narrow(1, 0, config_.latent_channels);
}

at::Tensor MagiVae::decode_mean(const at::Tensor& mean, MagiClip clip) const {
  check_latents(mean, clip);
  const int64_t batch = mean.size(0), t = mean.size(2), h = mean.size(3), w = mean.size(4);
  const int64_t length = config_.patch_length, patch = config_.patch_size, values = config_.pixel_values();
  const at::Tensor latents = mean.to(device(), dtype()).flatten(2).transpose(1, 2);
  const at::Tensor tokens = decoder_(latent_in_(latents), {t, h, w}).to(dtype());
  const at::Tensor pixels = tokens.reshape({batch, t, h, w, length, patch, patch, values})
                                .permute({0, 7, 1, 4, 2, 5, 3, 6})
                                .reshape({batch, values, t * length, h * patch, w * patch});
  const at::Tensor video = convolve(pixels, pixels_weight_, pixels_bias_, /*stride=*/{1, 1, 1}, /*padding=*/{1, 1, 1});
  return (clip == MagiClip::still ? video.narrow(2, 0, 1) : video).to(at::kFloat);
}

at::Tensor MagiVae::decode(const at::Tensor& latents, MagiClip clip) const {
  check_latents(latents, clip);
  return decode_mean(latents.to(at::kFloat) / kMagiScaleFactor, clip);
}

void MagiVae::check_video(const at::Tensor& video) const {
  if (video.dim() != 5 || video.size(1) != config_.channels || video.numel() == 0 || !video.is_floating_point()) {
    fail_usage(
        "a video to encode is a floating-point tensor [batch, {}, frames, height, width], this one is {} {}; convert "
        "it first",
        config_.channels, toString(video.scalar_type()), fmt::join(video.sizes(), "x"));
  }
  const auto fit = [](int64_t size, int64_t part) { return std::max(part, (size + part / 2) / part * part); };
  const int64_t frames = video.size(2), height = video.size(3), width = video.size(4);
  const int64_t length = config_.patch_length, patch = config_.patch_size;
  if (frames != 1 && frames % length != 0) {
    fail_usage("a clip to encode has a multiple of {} frames, or is one still, this one has {}; give {}", length,
               frames, fit(frames, length));
  }
  if (height % patch != 0 || width % patch != 0) {
    fail_usage(
        "a video to encode has a height and width divisible by {}, this one is {}x{} (width x height); resize it to "
        "{}x{}",
        patch, width, height, fit(width, patch), fit(height, patch));
  }
}

void MagiVae::check_latents(const at::Tensor& latents, MagiClip clip) const {
  if (latents.dim() != 5 || latents.size(1) != config_.latent_channels || latents.numel() == 0 ||
      !latents.is_floating_point()) {
    fail_usage(
        "latents to decode are a floating-point tensor [batch, {}, frames/{}, height/{}, width/{}], these are {} {}; "
        "check which model made them",
        config_.latent_channels, config_.patch_length, config_.patch_size, config_.patch_size,
        toString(latents.scalar_type()), fmt::join(latents.sizes(), "x"));
  }
  if (clip == MagiClip::still && latents.size(2) != 1) {
    fail_usage("a still has 1 latent frame, these latents have {}; decode them as a video", latents.size(2));
  }
}

at::Tensor magi_video_to_uint8(const at::Tensor& video) {
  LONGTAKE_CHECK(video.is_floating_point(), "expected floating-point video, found {}", toString(video.scalar_type()));
  return (video * 127.5 + 127.5).clamp(0, 255).to(at::kByte);
}

}  // namespace longtake
