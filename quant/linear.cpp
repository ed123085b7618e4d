#include "quant/linear.h"

#include <ATen/ops/linear.h>

#include "base/error.h"

namespace longtake {

at::Tensor Linear::operator()(const at::Tensor& x) const {
  LONGTAKE_CHECK(x.dim() >= 1 && x.size(-1) == weight.size(1), "expected {} input features, found {}", weight.size(1),
                 x.size(-1));
  return at::linear(x.to(weight.scalar_type()), weight, bias);
}

at::Tensor Linear::in_float32(const at::Tensor& x) const {
  LONGTAKE_CHECK(x.dim() >= 1 && x.size(-1) == weight.size(1), "expected {} input features, found {}", weight.size(1),
                 x.size(-1));
  return at::linear(x.to(at::kFloat), weight.to(at::kFloat), bias.defined() ? bias.to(at::kFloat) : bias);
}

}  // namespace longtake
