#include "quant/linear.h"

#include <ATen/ops/_addmm_activation.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include "base/error.h"

namespace longtake {
namespace {

void check_into(const at::Tensor& out, const at::Tensor& x, const at::Tensor& weight) {
  LONGTAKE_CHECK(x.dim() == 2 && x.size(1) == weight.size(1) && x.scalar_type() == weight.scalar_type(),
                 "expected [rows, {}] of the weight's dtype, found [{}]", weight.size(1), fmt::join(x.sizes(), ", "));
  LONGTAKE_CHECK(out.dim() == 2 && out.size(0) == x.size(0) && out.size(1) == weight.size(0) && out.is_contiguous() &&
                     out.scalar_type() == weight.scalar_type(),
                 "expected a dense result [{}, {}] of the weight's dtype, found [{}]", x.size(0), weight.size(0),
                 fmt::join(out.sizes(), ", "));
}

}  // namespace

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

void Linear::into(at::Tensor& out, const at::Tensor& x) const {
  check_into(out, x, weight);
  if (bias.defined())
    at::addmm_out(out, bias, x, weight.t());
  else
    at::mm_out(out, x, weight.t());
}

void Linear::gelu_into(at::Tensor& out, const at::Tensor& x) const {
  // On the CPU the fused operator means the other gelu (erf).
  if (x.is_cuda() && bias.defined()) {
    check_into(out, x, weight);
    at::_addmm_activation_out(out, bias, x, weight.t(), 1, 1, /*use_gelu=*/true);
    return;
  }
  into(out, x);
  out.copy_(at::gelu(out, "tanh"));
}

}  // namespace longtake
