// 3D convolution as the VAEs use it.
#pragma once

#include <ATen/core/Tensor.h>

namespace longtake {

// at::conv3d without its rule that small float32 inputs (by batch * channels * frames * height) avoid oneDNN on the CPU: the fallback is several
// times slower at the sizes of a chunk of one or two latents, and works on its unfolded input, which has each value once for every tap. There the
// result has its channels innermost in memory (at::MemoryFormat::ChannelsLast3d), and an input that has not is copied.
at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, at::IntArrayRef stride, at::IntArrayRef padding);

}  // namespace longtake
