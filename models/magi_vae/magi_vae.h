// MAGI-1's VAE: video to latents and back in one pass, for pictures and for what fits one tile; tiled.h does the rest.
//
// Shapes (released sizes): video [B, 3, T, H, W] in [-1, 1], T a multiple of 4 or 1, H and W multiples of 8; latents
// [B, 16, T/4, H/8, W/8]. There is no first-frame rule and nothing is causal: all frames of a pass see each other, and
// two passes nothing of each other, so a clip streams piece by piece without state.
//
// A single frame is a still: it is encoded as four copies. Any floating dtype comes in; the network computes in the
// weights' dtype (norms in float32) on the weights' device, float32 leaves. Weights are immutable; calls are const and
// differentiable. Misshapen input is an Error (usage) that says what fits. Source: magi1.md section 4.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include "models/magi_vae/config.h"
#include "models/magi_vae/transformer.h"

namespace longtake {

class WeightSource;

// Latents of the diffusion model are means times this.
inline constexpr double kMagiScaleFactor = 0.18215;

// What the reference program does and we do not unless asked.
struct MagiVaeParity {
  bool round_qkv = false;          // q, k and v rounded to bfloat16, whatever the weights' dtype
  bool lone_latent_still = false;  // in tiled decoding, a tile of one latent frame gives one frame and not four
};

// What one latent frame decodes to: its four frames, or one picture.
enum class MagiClip { video, still };

class MagiVae {
 public:
  // Error (bad_file) naming the tensor that is missing or whose shape disagrees with the config.
  MagiVae(WeightSource& source, const MagiVaeConfig& config, MagiVaeParity parity = {});

  // Posterior mean and log variance [B, 32, t, h, w].
  at::Tensor encode_moments(const at::Tensor& video) const;
  // Their first half: what the diffusion model works on, before scaling.
  at::Tensor encode_mean(const at::Tensor& video) const;
  // Means [B, 16, t, h, w] -> video [B, 3, 4t, 8h, 8w], not clamped; a still has one latent frame and one frame.
  at::Tensor decode_mean(const at::Tensor& mean, MagiClip clip = MagiClip::video) const;

  // encode_mean times the scale factor; decode_mean of latents over it.
  at::Tensor encode(const at::Tensor& video) const { return encode_mean(video) * kMagiScaleFactor; }
  at::Tensor decode(const at::Tensor& latents, MagiClip clip = MagiClip::video) const;

  // Error (usage) where a tensor does not fit; for the tiled passes too.
  void check_video(const at::Tensor& video) const;
  void check_latents(const at::Tensor& latents, MagiClip clip) const;

  const MagiVaeConfig& config() const { return config_; }
  const MagiVaeParity& parity() const { return parity_; }
  at::ScalarType dtype() const { return patch_.weight.scalar_type(); }
  at::Device device() const { return patch_.weight.device(); }

 private:
  MagiVaeConfig config_;
  MagiVaeParity parity_;
  MagiVaeTransformer encoder_, decoder_;
  Linear patch_, moments_, latent_in_;
  at::Tensor pixels_weight_, pixels_bias_;  // convolution 3x3x3
};

// Video in [-1, 1] of any floating dtype -> uint8 of the same shape: x * 127.5 + 127.5 computed in the tensor's dtype,
// clamped to 0 to 255 and cut. Float32 is exact; the reference's frames come from bfloat16, whose steps are whole
// numbers from 128 on (section 3.9).
at::Tensor magi_video_to_uint8(const at::Tensor& video);

}  // namespace longtake
