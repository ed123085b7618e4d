// The Wan 2.1 VAE: video to latents and back, for whole clips and (stream.h) chunk by chunk.
//
// Shapes: video [B, 3, T, H, W] in [-1, 1], T = 1 + 4k, H and W multiples of 8; latents [B, 16, 1 + k, H/8, W/8],
// normalised with the Wan statistics (latent_stats.h). Any floating dtype comes in; the network computes in the
// weights' dtype (norms in float32) on the weights' device, normalisation is float32. Latents leave as float32, video
// in the weights' dtype.
//
// Weights are immutable and all calls are const and differentiable. A whole-clip call holds a few full-size activations
// of every frame (cost.h); long clips belong into a stream. Misshapen input is an Error (usage) that says what fits.
// Source: skyreels_v2.md section 5.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/wan_vae/layers.h"
#include "models/wan_vae/sizes.h"

namespace longtake {

class WeightSource;

class WanVae {
 public:
  // A checkpoint: sizes from names and shapes. Error (bad_file) naming the tensor that is missing or misshapen.
  explicit WanVae(WeightSource& source);
  // Fresh weights for training, whose sizes only the caller knows.
  WanVae(WeightSource& source, const VaeSizes& sizes);

  // Posterior mean, normalised, float32.
  at::Tensor encode(const at::Tensor& video) const;
  // Posterior mean and log variance [B, 32, 1 + k, H/8, W/8] in the weights' dtype, not normalised.
  at::Tensor encode_moments(const at::Tensor& video) const;

  // Normalised latents to video, clamped to [-1, 1].
  at::Tensor decode(const at::Tensor& latents) const;
  // The same without the clamp, whose gradient is zero outside.
  at::Tensor decode_raw(const at::Tensor& latents) const;

  // (mean - Wan mean) / Wan deviation over dim 1, float32; and back.
  at::Tensor normalise(const at::Tensor& mean) const;
  at::Tensor denormalise(const at::Tensor& latents) const;

  const VaeSizes& sizes() const { return sizes_; }
  // Of the weights.
  at::ScalarType dtype() const { return conv1_.weight().scalar_type(); }
  at::Device device() const { return conv1_.weight().device(); }

 private:
  friend class VaeEncodeStream;
  friend class VaeDecodeStream;

  void check_video(const at::Tensor& video) const;
  void check_latents(const at::Tensor& latents) const;
  // What whole clips and streams share; shapes are checked before.
  at::Tensor run_encoder(const at::Tensor& video, const VaePass& pass) const;
  at::Tensor run_decoder(const at::Tensor& latents, const VaePass& pass) const;

  VaeSizes sizes_;
  VaeCoder encoder_, decoder_;
  PointConv conv1_, conv2_;
  at::Tensor mean_, deviation_;  // [1, 16, 1, 1, 1], float32
};

}  // namespace longtake
