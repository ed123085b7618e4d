// Frames of any size to another one: the largest part of its shape from the middle, scaled.
//
// Scaled down by averaging areas, up by cubic interpolation. Frames: uint8 RGB [n, H, W, 3], CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace longtake {

class FrameFit {
 public:
  // All sizes in pixels, at least 1.
  FrameFit(int64_t from_height, int64_t from_width, int64_t to_height, int64_t to_width);

  at::Tensor operator()(const at::Tensor& frames) const;

  // What is done, such as "128x192 cut to 128x128, scaled to 64x64"; "" for nothing.
  std::string note() const;

 private:
  int64_t from_height_, from_width_, to_height_, to_width_;
  int64_t height_, width_;  // of the part
};

}  // namespace longtake
