// Between the decoder's video tensors and 8-bit frames.
//
// Video: [3, T, H, W], floating point, -1 (black) .. 1 (white), RGB. Frames: [T, H, W, 3], uint8, RGB, contiguous.
// Both functions keep the device. Source: SkyReels-V2 pipelines (video processor), spec/skyreels_v2.md.
#pragma once

#include <ATen/core/Tensor.h>

namespace longtake {

// ((x / 2 + 0.5) clamped to 0..1) * 255, truncated as the reference does. Error (numerical) for NaN or infinity.
at::Tensor to_frames(const at::Tensor& video);

// frames / 127.5 - 1 as float32 [3, T, H, W]: the input of the VAE's encoder.
at::Tensor from_frames(const at::Tensor& frames);

// Throws (internal) unless the tensor is uint8 [T, H, W, 3].
void check_frames(const at::Tensor& frames, const char* what);

}  // namespace longtake
