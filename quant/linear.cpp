#include "quant/linear.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_addmm_activation.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include "base/error.h"
#include "quant/fp8.h"

namespace longtake {
namespace {

// x W^T of bfloat16 factors with a float32 result, on CUDA; undefined where LibTorch is too old for it (before 2.8).
template <class T>
at::Tensor wide_product(const T& x, const T& weight) {
  if constexpr (requires { at::mm(x, weight, at::kFloat); })
    return at::mm(x, weight.t(), at::kFloat);
  else
    return {};
}

void check_into(const at::Tensor& out, const at::Tensor& x, const at::Tensor& weight) {
  LONGTAKE_CHECK(x.dim() == 2 && x.size(1) == weight.size(1) && x.scalar_type() == weight.scalar_type(),
                 "expected [rows, {}] of the weight's dtype, found [{}]", weight.size(1), fmt::join(x.sizes(), ", "));
  LONGTAKE_CHECK(out.dim() == 2 && out.size(0) == x.size(0) && out.size(1) == weight.size(0) && out.is_contiguous() &&
                     out.scalar_type() == weight.scalar_type(),
                 "expected a dense result [{}, {}] of the weight's dtype, found [{}]", x.size(0), weight.size(0),
                 fmt::join(out.sizes(), ", "));
}

at::Tensor room_for(const at::Tensor& x, const Linear& layer) {
  return at::empty({x.size(0), layer.weight.size(0)}, x.options().dtype(at::kBFloat16));
}

Fp8Rows rows_for(const Linear& layer, const at::Tensor& x) {
  return quantise_rows(layer.input_factors.defined() ? x * layer.input_factors : x.contiguous());  // (the product is float32)
}

}  // namespace

bool Linear::to_fp8() {
  if (!fits_fp8(weight) || !at::isfinite(weight).all().item<bool>()) return false;
  LONGTAKE_CHECK(!bias.defined() || bias.scalar_type() == at::kBFloat16, "expected a bfloat16 bias, found {}",
                 c10::toString(bias.scalar_type()));
  Fp8Rows rows = quantise_rows(weight.contiguous());
  weight = std::move(rows.values);
  scale = std::move(rows.scales);
  return true;
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  LONGTAKE_CHECK(x.dim() >= 1 && x.size(-1) == weight.size(1), "expected {} input features, found {}", weight.size(1),
                 x.size(-1));
  if (in_fp8()) {
    const at::Tensor rows = x.reshape({-1, x.size(-1)}).contiguous();
    at::Tensor out = room_for(rows, *this);
    fp8_product(out, rows_for(*this, rows), {weight, scale}, bias);
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = weight.size(0);
    return out.view(shape);
  }
  return at::linear(x.to(weight.scalar_type()), weight, bias);
}

at::Tensor Linear::in_float32(const at::Tensor& x) const {
  LONGTAKE_CHECK(!in_fp8(), "expected a layer that is not in fp8");
  LONGTAKE_CHECK(x.dim() >= 1 && x.size(-1) == weight.size(1), "expected {} input features, found {}", weight.size(1),
                 x.size(-1));
  // Products of bfloat16 numbers are exact in float32: only the order of the sums differs, and tensor cores take them.
  const bool trains = at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
  if (x.is_cuda() && x.scalar_type() == at::kBFloat16 && weight.scalar_type() == at::kBFloat16 && !trains) {
    at::Tensor out = wide_product(x.reshape({-1, x.size(-1)}), weight);
    if (out.defined()) {
      if (bias.defined()) out.add_(bias);
      std::vector<int64_t> shape = x.sizes().vec();
      shape.back() = weight.size(0);
      return out.view(shape);
    }
  }
  return at::linear(x.to(at::kFloat), weight.to(at::kFloat), bias.defined() ? bias.to(at::kFloat) : bias);
}

void Linear::into(at::Tensor& out, const at::Tensor& x) const {
  if (in_fp8()) return fp8_product(out, rows_for(*this, x), {weight, scale}, bias);
  check_into(out, x, weight);
  if (bias.defined())
    at::addmm_out(out, bias, x, weight.t());
  else
    at::mm_out(out, x, weight.t());
}

void Linear::into(at::Tensor& out, const Fp8Rows& x) const {
  LONGTAKE_CHECK(takes_rounded(), "expected a layer in fp8 without input factors");
  fp8_product(out, x, {weight, scale}, bias);
}

void Linear::gelu_into(at::Tensor& out, const at::Tensor& x) const {
  // On the CPU the fused operator means the other gelu (erf).
  if (x.is_cuda() && bias.defined() && !in_fp8()) {
    check_into(out, x, weight);
    at::_addmm_activation_out(out, bias, x, weight.t(), 1, 1, /*use_gelu=*/true);
    return;
  }
  into(out, x);
  out.copy_(at::gelu(out, "tanh"));
}

void feed_forward_into(at::Tensor& out, at::Tensor& hidden, const at::Tensor& x, const Linear& first,
                       const Linear& second) {
  if (first.takes_rounded()) return feed_forward_into(out, hidden, quantise_rows(x), first, second);
  first.gelu_into(hidden, x);
  second.into(out, hidden);
}

void feed_forward_into(at::Tensor& out, at::Tensor& hidden, const Fp8Rows& x, const Linear& first, const Linear& second) {
  if (second.takes_rounded()) {
    fp8_product(hidden, x, {first.weight, first.scale}, {});
    return fp8_product(out, gelu_quantise_rows(hidden, first.bias), {second.weight, second.scale}, second.bias);
  }
  first.into(hidden, x);
  hidden.copy_(at::gelu(hidden, "tanh"));
  second.into(out, hidden);
}

at::Tensor feed_forward(const at::Tensor& x, const Linear& first, const Linear& second) {
  if (!first.in_fp8() || !second.in_fp8()) return second(at::gelu(first(x), "tanh"));
  at::Tensor hidden = room_for(x, first), out = room_for(x, second);
  feed_forward_into(out, hidden, x, first, second);
  return out;
}

}  // namespace longtake
