#include "models/magi/quantised.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>

#include "base/error.h"
#include "quant/fp8.h"

namespace longtake::magi {
namespace {

at::Tensor take_scale(WeightSource& source, const std::string& name, const std::vector<int64_t>& shape) {
  const at::Tensor scale = source.take_float32(name, shape).flatten();
  if (!(at::isfinite(scale) & scale.gt(0)).all().item<bool>())
    fail_file("tensor '{}' holds a scale that is not a positive number; the checkpoint is damaged", name);
  return scale;
}

// What inputs are multiplied by before the product with the weight as weight_scale alone has it; undefined where by 1.
at::Tensor input_factors(WeightSource& source, const std::string& name, int64_t in) {
  const bool smooth = source.has(name + ".smooth_scale");
  const at::Tensor input = take_scale(source, name + ".input_scale", {smooth ? 1 : in});
  const at::Tensor divisors = smooth ? take_scale(source, name + ".smooth_scale", {1, in}) : input;
  const at::Tensor factors = input.narrow(0, 0, 1) / divisors;
  return factors.eq(1).all().item<bool>() ? at::Tensor() : factors;
}

}  // namespace

bool is_quantised(const WeightSource& source, const std::string& name) { return source.has(name + ".weight_scale"); }

Linear take_quantised(WeightSource& source, const std::string& name, int64_t out, int64_t in, QuantisedAs as) {
  // Every e4m3 value is one of bfloat16 and of float32 too.
  const at::Tensor weight = source.take(name + ".weight", {1, out, in}).view({out, in});
  if (!at::isfinite(weight).all().item<bool>()) fail_file("tensor '{}.weight' holds values that are not finite; the checkpoint is damaged", name);
  const at::Tensor scale = take_scale(source, name + ".weight_scale", {1});
  const at::Tensor factors = input_factors(source, name, in);
  if (as == QuantisedAs::fp8 && fits_fp8(weight)) {
    Linear layer;
    layer.weight = weight.to(at::kFloat8_e4m3fn);
    layer.scale = scale.expand({out}).contiguous();
    layer.input_factors = factors;
    return layer;
  }
  const at::Tensor wide = weight.to(at::kFloat) * scale;
  return {(factors.defined() ? wide * factors : wide).to(weight.scalar_type()), {}};
}

}  // namespace longtake::magi
