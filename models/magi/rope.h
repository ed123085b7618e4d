// The positions of MAGI-1's tokens as rotations: learned frequency bands, a grid centred and rescaled to 16 x 16
// patches. Spec: magi1.md 2.3.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace longtake::magi {

// bands [b] float32 -> rotations of frames x height x width tokens, frame-major, the first frame standing at time
// `first_frame`: float32 [frames*height*width, 6*b], the sines and then the cosines of the angles ordered (time, row,
// column) x bands. Rows and columns are centred on 0 and rescaled by one factor an axis, so that the grid has the area
// of 16 x 16 and keeps its aspect ratio. For attention/rope.h's apply_rope_halves. On the device of `bands`.
at::Tensor rope_table(const at::Tensor& bands, int64_t first_frame, int64_t frames, int64_t height, int64_t width);

}  // namespace longtake::magi
