// The VAE of a MAGI-1 model as a run uses it: given frames to latents, finished latents to frames.
//
// Two kinds stand behind it. MAGI-1's own codes every piece for itself, tile by tile, four frames a latent frame. Wan 2.1's, which the
// demo models share, is causal: the first latent frame of a video is one frame alone (RunConfig::missing_frames), and decoding goes on
// from all that came before.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "runtime/model.h"

namespace longtake {

// Of one video, whose latents it gets in order.
class MagiDecoder {
 public:
  virtual ~MagiDecoder() = default;
  // latents [C, n, h, w] -> the frames that they stand for, [3, m, H, W] in [-1, 1]. Called from one thread at a time.
  virtual at::Tensor decode(const at::Tensor& latents) = 0;
  // Latents whose frames are not asked for, but those behind them.
  virtual void pass_over(const at::Tensor& latents) = 0;
};

class MagiCodec {
 public:
  virtual ~MagiCodec() = default;

  // Height and width of a latent pixel.
  virtual int64_t patch() const = 0;
  // frames [3, n, H, W] in [-1, 1] that a video begins with -> latents [C, P, h, w] float32.
  virtual at::Tensor encode(const at::Tensor& frames) const = 0;
  // Borrows the codec.
  virtual std::unique_ptr<MagiDecoder> decoder() const = 0;
};

// Errors: bad_file as the VAEs' own.
std::unique_ptr<MagiCodec> load_magi_codec(const ResolvedModel& model, const ModelTarget& target);
// With random weights of the recipe's sizes.
std::unique_ptr<MagiCodec> random_magi_codec(const Recipe& recipe, const ModelTarget& target, uint64_t seed);

// Operations of decoding a whole video; 0 where the recipe does not give the VAE's sizes.
double magi_codec_flops(const Recipe& recipe, int64_t height, int64_t width, int64_t frames);

}  // namespace longtake
