// Three-dimensional rotary position embedding with interleaved pairs (Wan 2.1, SkyReels-V2; spec skyreels_v2.md 2.3).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace longtake {

// Rotations for a grid of frames x height x width positions, frame-major: complex64 [frames*height*width, head_width/2].
// Height and width take 2*(head_width/6) channels each, time the rest (44/42/42 of 128). Angles are computed in float64.
at::Tensor rope_3d(int64_t frames, int64_t height, int64_t width, int64_t head_width, const at::Device& device,
                   double theta = 10000.0);

// x [n, heads, head_width] of any floating dtype, rotations [n, head_width/2] complex64 (row i belongs to token i).
// Computes in float32 and returns float32: the caller rounds once, for attention.
at::Tensor apply_rope(const at::Tensor& x, const at::Tensor& rotations);

}  // namespace longtake
