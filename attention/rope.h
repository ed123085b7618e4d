// Rotary position embedding: with interleaved pairs over three axes (Wan 2.1, SkyReels-V2; spec skyreels_v2.md 2.3), and with
// pairs of two halves (MAGI-1; spec magi1.md 2.3).
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

// x [n, heads, head_width] of any floating dtype, table [n, 2*r] float32: the sines and then the cosines of r angles (row i
// belongs to token i). Rotates channel c with channel c + r for c < r; those from 2*r on stay. Computes in and returns float32.
at::Tensor apply_rope_halves(const at::Tensor& x, const at::Tensor& table);

}  // namespace longtake
