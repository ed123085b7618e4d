#include "quant/fp8.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_scaled_mm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>

#include "base/cuda.h"
#include "base/error.h"
#include "quant/cuda/quantise_rows.cuh"

namespace longtake {
namespace {

constexpr int64_t kMultiple = 16;

void check_rows(const at::Tensor& x, const at::Tensor& bias) {
  LONGTAKE_CHECK(
      x.dim() == 2 && x.size(1) > 0 && x.is_contiguous() &&
          (x.scalar_type() == at::kFloat || x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16),
      "expected dense rows [n, width] of float32, float16 or bfloat16, found {} [{}]", c10::toString(x.scalar_type()),
      fmt::join(x.sizes(), ", "));
  LONGTAKE_CHECK(
      !bias.defined() || (bias.dim() == 1 && bias.size(0) == x.size(1) && bias.scalar_type() == x.scalar_type() &&
                          bias.is_contiguous() && bias.device() == x.device()),
      "expected a dense bias [{}] of the rows' dtype on {}", x.size(1), x.device().str());
}

void check_factor(const Fp8Rows& rows, const char* name) {
  LONGTAKE_CHECK(
      rows.values.dim() == 2 && rows.values.scalar_type() == at::kFloat8_e4m3fn && rows.values.is_contiguous(),
      "expected {} as dense e4m3 rows, found {} [{}]", name, c10::toString(rows.values.scalar_type()),
      fmt::join(rows.values.sizes(), ", "));
  LONGTAKE_CHECK(rows.scales.dim() == 1 && rows.scales.size(0) == rows.values.size(0) &&
                     rows.scales.scalar_type() == at::kFloat && rows.scales.is_contiguous(),
                 "expected {} dense float32 scales of {}, found [{}]", rows.values.size(0), name,
                 fmt::join(rows.scales.sizes(), ", "));
}

void check_product(const at::Tensor& out, const Fp8Rows& x, const Fp8Rows& weight, const at::Tensor& bias) {
  check_factor(x, "the rows"), check_factor(weight, "the weight");
  LONGTAKE_CHECK(x.values.size(1) == weight.values.size(1), "expected {} input features, found {}",
                 weight.values.size(1), x.values.size(1));
  LONGTAKE_CHECK(fits_fp8(weight.values), "expected a weight whose sizes are multiples of {}, found [{}]", kMultiple,
                 fmt::join(weight.values.sizes(), ", "));
  LONGTAKE_CHECK(out.dim() == 2 && out.size(0) == x.values.size(0) && out.size(1) == weight.values.size(0) &&
                     out.is_contiguous() && out.scalar_type() == at::kBFloat16,
                 "expected a dense bfloat16 result [{}, {}], found {} [{}]", x.values.size(0), weight.values.size(0),
                 c10::toString(out.scalar_type()), fmt::join(out.sizes(), ", "));
  LONGTAKE_CHECK(!bias.defined() ||
                     (bias.dim() == 1 && bias.size(0) == weight.values.size(0) && bias.scalar_type() == at::kBFloat16),
                 "expected a bfloat16 bias [{}]", weight.values.size(0));
}

Fp8Rows run_kernel(const at::Tensor& x, bool gelu, const at::Tensor& bias) {
  const auto bytes = at::TensorOptions().device(x.device());
  Fp8Rows out{at::empty(x.sizes(), bytes.dtype(at::kFloat8_e4m3fn)), at::empty({x.size(0)}, bytes.dtype(at::kFloat))};
  cuda::QuantiseRows p;
  p.rows = x.size(0), p.width = x.size(1);
  p.type = cuda::float_type(x);
  p.x = x.const_data_ptr();
  p.gelu = gelu;
  p.bias = bias.defined() ? bias.const_data_ptr() : nullptr;
  p.values = static_cast<uint8_t*>(out.values.data_ptr());
  p.scales = out.scales.data_ptr<float>();
  const cuda::Launch launch(x, "quantise_rows");
  launch.check(cuda::quantise_rows(p, launch.stream()));
  return out;
}

bool aligned(const at::Tensor& x) { return !x.defined() || reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0; }

// Vectors of eight from an aligned start.
bool kernel_takes(const at::Tensor& x, const at::Tensor& bias) {
  return cuda::runs_kernels(x) && cuda::quantise_fits(x.size(1)) && aligned(x) && aligned(bias);
}

}  // namespace

Fp8Rows quantise_rows(const at::Tensor& x) {
  check_rows(x, {});
  return kernel_takes(x, {}) ? run_kernel(x, false, {}) : reference::quantise_rows(x);
}

Fp8Rows gelu_quantise_rows(const at::Tensor& x, const at::Tensor& bias) {
  check_rows(x, bias);
  return kernel_takes(x, bias) ? run_kernel(x, true, bias) : reference::gelu_quantise_rows(x, bias);
}

bool fits_fp8(const at::Tensor& weight) {
  return weight.dim() == 2 && weight.numel() > 0 && weight.size(0) % kMultiple == 0 && weight.size(1) % kMultiple == 0;
}

void fp8_product(at::Tensor& out, const Fp8Rows& x, const Fp8Rows& weight, const at::Tensor& bias) {
  check_product(out, x, weight, bias);
  if (out.numel() == 0) return;
  if (!out.is_cuda()) return reference::fp8_product(out, x, weight, bias);
  at::_scaled_mm_out(out, x.values, weight.values.t(), x.scales.unsqueeze(1), weight.scales.unsqueeze(0),
                     bias.defined() ? std::optional(bias) : std::nullopt, std::nullopt, at::kBFloat16,
                     /*use_fast_accum=*/true);
}

namespace reference {

Fp8Rows quantise_rows(const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor largest = wide.abs().amax(1).clamp_min(cuda::kSmallestRow);
  const at::Tensor scaled = wide * (cuda::kE4m3Max / largest).unsqueeze(1);
  // A product that rounds to a little more than 448 would become NaN.
  return {scaled.clamp(-cuda::kE4m3Max, cuda::kE4m3Max).to(at::kFloat8_e4m3fn), largest / cuda::kE4m3Max};
}

Fp8Rows gelu_quantise_rows(const at::Tensor& x, const at::Tensor& bias) {
  const at::Tensor wide = x.to(at::kFloat);
  return quantise_rows(at::gelu(bias.defined() ? wide + bias.to(at::kFloat) : wide, "tanh"));
}

void fp8_product(at::Tensor& out, const Fp8Rows& x, const Fp8Rows& weight, const at::Tensor& bias) {
  // Scales last, as the device does it: sums of the values themselves are far from the ends of float32's range.
  at::Tensor sums = at::linear(x.values.to(at::kFloat), weight.values.to(at::kFloat));
  sums = sums * x.scales.unsqueeze(1) * weight.scales.unsqueeze(0);
  out.copy_(bias.defined() ? sums + bias.to(at::kFloat) : sums);
}

}  // namespace reference

}  // namespace longtake
