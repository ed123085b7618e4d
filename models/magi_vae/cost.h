// What MAGI-1's VAE costs over tiles, in closed form from the sizes: floating-point operations and peak memory.
// Source: magi1.md section 4.4.
#pragma once

#include "models/magi_vae/tiled.h"

namespace longtake {

// Floating-point operations (a multiply-add is two) of a clip of `frames` frames of height x width pixels, frames a
// multiple of the patch length. The released VAE at 720x720 and 24 frames: 6.7e13 to decode, and as many to encode.
double magi_vae_decode_flops(const MagiVaeConfig& config, const MagiTiling& tiling, int64_t height, int64_t width,
                             int64_t frames);
double magi_vae_encode_flops(const MagiVaeConfig& config, const MagiTiling& tiling, int64_t height, int64_t width,
                             int64_t frames);

// Bytes that inference holds at most, batch 1, with `value_bytes` a value of the weights (2 for bfloat16, 4 for
// float32): a tile's activations beside the tiles that wait for their neighbours, and the whole result. Weights, the
// input and the library's own workspace come on top.
int64_t magi_vae_decode_peak_bytes(const MagiVaeConfig& config, const MagiTiling& tiling, int64_t height, int64_t width,
                                   int64_t frames, int64_t value_bytes);
int64_t magi_vae_encode_peak_bytes(const MagiVaeConfig& config, const MagiTiling& tiling, int64_t height, int64_t width,
                                   int64_t frames, int64_t value_bytes);

}  // namespace longtake
