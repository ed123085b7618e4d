// The VAE's norm over the channels of every pixel, with SiLU where asked, in one pass.
//
// Memory-bound: every value is read once and written once, where the same in plain tensors goes over them seven times. Channels are innermost in
// memory, so a pixel is a row; half a warp takes one of up to 128 channels, a warp one of up to 512.
#pragma once

#include "base/cuda/kernel.h"

namespace longtake::cuda {

constexpr bool pixel_norm_fits(int64_t channels) { return channels > 0 && channels % kRowStep == 0 && channels <= 512; }

struct PixelNorm {
  int64_t pixels = 0, channels = 0;  // pixel_norm_fits(channels)
  Float type = Float::f32;           // of x and out
  const void* x = nullptr;           // [pixels, channels], 16-byte aligned
  const float* gamma = nullptr;      // [channels], 16-byte aligned
  bool silu = false;
  void* out = nullptr;  // [pixels, channels]; x / max(|x|, 1e-12) * sqrt(channels) * gamma, then SiLU; in float32, rounded last
};

int pixel_norm(const PixelNorm& p, Stream stream);

}  // namespace longtake::cuda
