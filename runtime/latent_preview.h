// Small pictures straight from latents, without the VAE: each latent pixel's channels become a colour by a linear map.
//
// The map is the least-squares solution [C + 1, 3] between latents and the colours that the VAE decodes them to, each the mean
// over the latent pixel's 8 x 8 pixels and 4 frames (of a VAE whose first latent frame stands alone: that frame). It is fitted on the latents of seeded clips of coloured squares, so it belongs
// to the VAE alone and is the same in every run.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "models/wan_vae/wan_vae.h"

namespace longtake {

// Frames to one colour a latent pixel, float32: [3, 1 + 4k, H, W] to [3, 1 + k, H/8, W/8] where the first latent frame is one frame alone,
// else [3, 4k, H, W] to [3, k, H/8, W/8].
at::Tensor latent_colours(const at::Tensor& frames, bool first_alone = true);

class LatentPreview {
 public:
  using Coding = std::function<at::Tensor(const at::Tensor&)>;

  explicit LatentPreview(const WanVae& vae);
  // encode: [3, n, H, W] to [C, f, H/8, W/8]; decode: back.
  LatentPreview(const Coding& encode, const Coding& decode, bool first_alone);

  // latents [C, n, h, w] -> colours [3, n, h, w] float32 in about [-1, 1].
  at::Tensor colours(const at::Tensor& latents) const;
  // The latent frames beside one another, each latent pixel `scale` pixels wide: uint8 [h * scale, n * w * scale, 3], CPU.
  at::Tensor picture(const at::Tensor& latents, int64_t scale = 4) const;

 private:
  at::Tensor map_;  // [C + 1, 3] float32, CPU; the last row is the constant
};

}  // namespace longtake
