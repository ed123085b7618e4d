#include "models/magi/condition.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/sin.h>

#include <cmath>

#include "base/error.h"

namespace longtake::magi {
namespace {

constexpr int64_t kSinusoid = 256;

Linear take_float32(WeightSource& source, const std::string& name, int64_t out, int64_t in) {
  return {source.take_float32(name + ".weight", {out, in}), source.take_float32(name + ".bias", {out})};
}

// Rounded to float32 step by step as in the reference, but for exp: the nearest float, the same on every device.
at::Tensor frequencies(const at::Device& device) {
  const int64_t half = kSinusoid / 2;
  const at::Tensor exponent =
      at::arange(half, at::TensorOptions().dtype(at::kFloat)) * -std::log(10000.0) / static_cast<double>(half);
  return at::exp(exponent.to(at::kDouble)).to(at::kFloat).to(device);
}

}  // namespace

Condition::Condition(WeightSource& source, const ModelConfig& config, const at::Tensor& null_caption,
                     at::ScalarType dtype)
    : dtype_(dtype) {
  in_ = take_float32(source, "t_embedder.mlp.0", config.condition_dim, kSinusoid);
  out_ = take_float32(source, "t_embedder.mlp.2", config.condition_dim, config.condition_dim);
  frequencies_ = frequencies(in_.weight.device());
  // The last row of the null caption means "no text", the one before it "text". In float64 on the CPU: the nearest floats, the same
  // wherever the weights lie.
  const Linear text = take_float32(source, "y_embedder.y_proj_adaln.0", config.condition_dim, config.caption_dim);
  const auto wide = [](const at::Tensor& t) { return t.to(at::kCPU, at::kDouble); };
  const Linear exact{wide(text.weight), wide(text.bias)};
  text_rows_ = exact(wide(null_caption.narrow(0, config.caption_length - 2, 2))).to(in_.weight.device(), at::kFloat);
}

at::Tensor Condition::embed(const at::Tensor& times) const {
  const auto f32 = at::TensorOptions().dtype(at::kFloat).device(in_.weight.device());
  // Step sizes make angles of up to 32000, where one unit in the last place is 0.002: a model trained in float32 wants
  // float32 products in this order.
  const at::Tensor angle = times.to(f32).unsqueeze(1) * frequencies_ * 1000.0;
  const at::Tensor sinusoid = at::cat({at::cos(angle), at::sin(angle)}, 1).to(dtype_);
  return out_(at::silu(in_(sinusoid)));
}

at::Tensor Condition::operator()(const at::Tensor& timesteps, const at::Tensor& step_sizes,
                                 const at::Tensor& null_text) const {
  LONGTAKE_CHECK(timesteps.dim() == 1 && null_text.sizes() == timesteps.sizes() &&
                     (!step_sizes.defined() || step_sizes.sizes() == timesteps.sizes()),
                 "expected one text flag and step size for each of {} timesteps", timesteps.size(0));
  at::Tensor c = embed(timesteps);
  if (step_sizes.defined()) c = c + embed(step_sizes);
  return (c + text_rows_.index_select(0, null_text.to(text_rows_.device(), at::kLong))).to(dtype_);
}

void Condition::to(const at::Device& device) {
  for (at::Tensor* t : {&in_.weight, &in_.bias, &out_.weight, &out_.bias, &frequencies_, &text_rows_}) *t = t->to(device);
}

int64_t Condition::weight_bytes() const {
  int64_t bytes = text_rows_.defined() ? static_cast<int64_t>(text_rows_.nbytes()) : 0;
  for (const Linear* layer : {&in_, &out_})
    if (layer->weight.defined()) bytes += static_cast<int64_t>(layer->weight.nbytes() + layer->bias.nbytes());
  return bytes;
}

}  // namespace longtake::magi
