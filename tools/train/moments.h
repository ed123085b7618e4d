// A Wan VAE encoder that is constructed instead of trained.
//
// Its layers are set so that, exactly up to 1e-3, the latents are 16 principal components of the local moments of the video: for each
// 8x8x4 block (8x8 for the clip's first frame) of Y, B-Y and R-Y the mean, slopes and curvatures in space and time (30 numbers).
// Residual branches and attention are zero, resampling and shortcut convolutions carry the moments up the pyramid, and the
// final norm and SiLU are made linear: features come in pairs (x, -x), as silu(x) - silu(-x) = x, next to large constants
// that fix the norm. So latents of a drawn clip cost one small matrix product, and the transformer can learn from unlimited clips
// before and while the decoder is trained. Names and layers: skyreels_v2.md sections 5.2 to 5.4.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "models/wan_vae/sizes.h"
#include "models/weights/source.h"

namespace longtake::train {

inline constexpr int64_t kLatentChannels = 16;

// The sizes that this construction needs: stages of 8, 16, 32 and 64 channels, one residual block each.
VaeSizes demo_vae_sizes();

class MomentEncoder {
 public:
  // Measures mean and principal components on clips of the demo world; deterministic in `seed`.
  explicit MomentEncoder(uint64_t seed);
  // From the tensors of `state`.
  explicit MomentEncoder(const std::map<std::string, at::Tensor>& state);
  std::map<std::string, at::Tensor> state() const;
  // What install() put into a VAE's weights. Errors: bad_file for a VAE whose encoder is not constructed.
  static MomentEncoder of(WeightSource& vae);

  // video [B, 3, T, H, W] in [-1, 1], T = 1 + 4k -> normalised latents [B, 16, 1 + k, H/8, W/8], float32 on the CPU.
  // first_block = false: a piece from the middle of a clip, T = 4k -> [B, 16, k, H/8, W/8].
  at::Tensor encode(const at::Tensor& video, bool first_block = true) const;

  // Sets encoder.* and conv1.*, and conv2.* to undo Wan's normalisation, among a VAE's parameters (original names).
  void install(std::map<std::string, at::Tensor>& parameters) const;

 private:
  void build(const at::Tensor& mean, const at::Tensor& components);

  at::Tensor mean_, components_;   // [30], [16, 30]
  at::Tensor first_, later_;       // [16, 192], [16, 768]: of a block's pixels (channel, frame, y, x)
  at::Tensor offset_;              // [16]
};

}  // namespace longtake::train
