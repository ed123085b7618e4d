#include "models/skyreels/time_embedding.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/full.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/sin.h>

#include "models/skyreels/transformer.h"

namespace longtake::skyreels {

TimeEmbedder::TimeEmbedder(WeightSource& source, const TransformerConfig& config)
    : dim_(config.dim),
      freq_dim_(config.freq_dim),
      in_(take_linear(source, "time_embedding.0", dim_, freq_dim_)),
      out_(take_linear(source, "time_embedding.2", dim_, dim_)),
      projection_(take_linear(source, "time_projection.1", 6 * dim_, dim_)) {
  if (config.fps_embedding) {
    fps_table_ = source.take("fps_embedding.weight", {2, dim_});
    fps_in_ = take_linear(source, "fps_projection.0", dim_, dim_);
    fps_out_ = take_linear(source, "fps_projection.2", 6 * dim_, dim_);
  }
}

TimeEmbedding TimeEmbedder::operator()(const at::Tensor& timesteps, int fps_index) const {
  const int64_t half = freq_dim_ / 2, n = timesteps.size(0);
  const auto f64 = at::TensorOptions().dtype(at::kDouble).device(in_.weight.device());
  const at::Tensor frequency = at::pow(10000.0, at::arange(half, f64) * (-1.0 / static_cast<double>(half)));
  const at::Tensor angle = timesteps.to(f64).unsqueeze(1) * frequency;
  // The reference feeds the sinusoid in the weights' dtype and computes in float32 from there (spec 2.4).
  const at::Tensor sinusoid = at::cat({at::cos(angle), at::sin(angle)}, 1).to(in_.weight.scalar_type());
  TimeEmbedding out;
  out.e = out_.in_float32(at::silu(in_.in_float32(sinusoid)));
  out.E = projection_.in_float32(at::silu(out.e)).view({n, 6, dim_});
  if (fps_table_.defined()) {
    const at::Tensor fps = fps_table_.select(0, fps_index).unsqueeze(0);
    out.E = out.E + fps_out_.in_float32(at::silu(fps_in_.in_float32(fps))).view({1, 6, dim_});
  }
  return out;
}

at::Tensor TimeEmbedder::step(double timestep, int fps_index) const {
  const auto f64 = at::TensorOptions().dtype(at::kDouble).device(in_.weight.device());
  return (*this)(at::full({1}, timestep, f64), fps_index).E.flatten().cpu();
}

void TimeEmbedder::to(const at::Device& device) {
  if (fps_table_.defined()) fps_table_ = fps_table_.to(device);
  for (Linear* layer : {&in_, &out_, &projection_, &fps_in_, &fps_out_}) {
    if (!layer->weight.defined()) continue;
    layer->weight = layer->weight.to(device);
    layer->bias = layer->bias.to(device);
  }
}

int64_t TimeEmbedder::weight_bytes() const {
  int64_t bytes = fps_table_.defined() ? static_cast<int64_t>(fps_table_.nbytes()) : 0;
  for (const Linear* layer : {&in_, &out_, &projection_, &fps_in_, &fps_out_})
    if (layer->weight.defined()) bytes += static_cast<int64_t>(layer->weight.nbytes() + layer->bias.nbytes());
  return bytes;
}

}  // namespace longtake::skyreels
