#include "models/ops/convolve.h"

#include <ATen/Context.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/mkldnn_convolution.h>

namespace longtake {

at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, at::IntArrayRef stride, at::IntArrayRef padding) {
  if (x.is_cpu() && x.scalar_type() == at::kFloat && at::hasMKLDNN() && at::globalContext().userEnabledMkldnn())
    return at::mkldnn_convolution(x.contiguous(at::MemoryFormat::ChannelsLast3d), weight, bias, padding, stride, /*dilation=*/{1, 1, 1}, /*groups=*/1);
  return at::conv3d(x, weight, bias, stride, padding);
}

}  // namespace longtake
