// Small pictures straight from latents, without the VAE: each latent pixel's channels become a colour by a linear map.
//
// The map is the least-squares solution [C + 1, 3] between latents and the colours that the VAE decodes them to, each the mean
// over the latent pixel's 8 x 8 pixels and 4 frames. It is fitted on the latents of seeded clips of coloured squares, so it belongs
// to the VAE alone and is the same in every run.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/wan_vae/wan_vae.h"

namespace longtake {

// Decodes [3, 1 + 4k, H, W] frames to one colour a latent pixel: [3, 1 + k, H/8, W/8] float32.
at::Tensor latent_colours(const at::Tensor& frames);

class LatentPreview {
 public:
  explicit LatentPreview(const WanVae& vae);

  // latents [C, n, h, w] -> colours [3, n, h, w] float32 in about [-1, 1].
  at::Tensor colours(const at::Tensor& latents) const;
  // The latent frames beside one another, each latent pixel `scale` pixels wide: uint8 [h * scale, n * w * scale, 3], CPU.
  at::Tensor picture(const at::Tensor& latents, int64_t scale = 4) const;

 private:
  at::Tensor map_;  // [C + 1, 3] float32, CPU; the last row is the constant
};

}  // namespace longtake
