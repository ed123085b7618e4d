// What encoding and decoding cost, in closed form from the sizes: floating-point operations and peak memory.
// `--dry-run` prints these, and memory plans choose the latents per push with them.
#pragma once

#include <cstdint>

#include "models/wan_vae/sizes.h"

namespace longtake {

// Floating-point operations (a multiply-add is two) of convolutions, projections and attention for a clip of 1 + 4k
// frames of height x width pixels. The released VAE at 544x960 and 97 frames: 4.3e14 to decode, 2.6e14 to encode.
double vae_decode_flops(const VaeSizes& sizes, int64_t height, int64_t width, int64_t frames);
double vae_encode_flops(const VaeSizes& sizes, int64_t height, int64_t width, int64_t frames);

// Bytes that inference holds at most while it pushes a clip of `latents` latents through a stream, `at_once` of them at a
// time, batch 1, with `value_bytes` a value (2 for bfloat16, 4 for float32): history and activations. Weights and the
// library's own convolution workspace come on top.
int64_t vae_decode_peak_bytes(const VaeSizes& sizes, int64_t height, int64_t width, int64_t latents, int64_t at_once,
                              int64_t value_bytes);
// The same of one push of `latents` alone: the clip's first, or a later one.
int64_t vae_decode_push_bytes(const VaeSizes& sizes, int64_t height, int64_t width, int64_t latents, bool first, int64_t value_bytes);
// The history alone: what a stream holds between pushes.
int64_t vae_decode_history_bytes(const VaeSizes& sizes, int64_t height, int64_t width, int64_t value_bytes);
// Likewise of encoding, four times `latents` frames at once.
int64_t vae_encode_peak_bytes(const VaeSizes& sizes, int64_t height, int64_t width, int64_t latents,
                              int64_t value_bytes);

}  // namespace longtake
