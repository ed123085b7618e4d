// Encoding and decoding chunk by chunk: a stream holds the convolutions' history of one clip, so that memory depends on
// the chunk and not on the clip. Any chunking gives the whole-clip result to rounding.
//
// A stream belongs to one run and borrows the VAE, which must outlive it. A copy of a stream is a snapshot: pushing
// into one does not change the other. Source: skyreels_v2.md section 5.4.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/wan_vae/wan_vae.h"

namespace longtake {

class VaeDecodeStream {
 public:
  explicit VaeDecodeStream(const WanVae& vae);

  // Normalised latents [B, 16, n, h, w], n >= 1, in the order of the clip -> frames [B, 3, m, 8h, 8w] clamped to [-1,
  // 1]: m = 4n - 3 for the first push, 4n after it. B, h and w are the same in every push: Error (usage) otherwise.
  at::Tensor push(const at::Tensor& latents);

  // Pushed so far.
  int64_t latents() const { return latents_; }

 private:
  const WanVae& vae_;
  ConvHistory history_;
  int64_t latents_ = 0;
  std::vector<int64_t> shape_;  // B, h, w of the first push
};

class VaeEncodeStream {
 public:
  explicit VaeEncodeStream(const WanVae& vae);

  // Frames [B, 3, n, H, W], any n >= 1 -> normalised latents [B, 16, m, H/8, W/8] of all that is complete: the clip's
  // first frame, then every four. m may be 0. B, H and W are the same in every push: Error (usage) otherwise.
  at::Tensor push(const at::Tensor& frames);

  // Frames that wait for the rest of their group of four. What is left at the end of a clip has no latent.
  int64_t pending() const { return pending_.defined() ? pending_.size(2) : 0; }

 private:
  const WanVae& vae_;
  ConvHistory history_;
  bool first_ = true;
  at::Tensor pending_;
  std::vector<int64_t> shape_;  // B, H, W of the first push
};

}  // namespace longtake
