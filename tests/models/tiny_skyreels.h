// A small SkyReels-V2 transformer with random weights, two prompts and a window of two chunks.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>

#include "models/skyreels/backbone.h"
#include "models/weights/checkpoint_source.h"

namespace longtake::test {

// Fresh weights in any dtype, with nothing left at 0 or 1.
class CastSource : public WeightSource {
 public:
  CastSource(at::Device device, at::ScalarType dtype)
      : init_([](const std::string&) { return true; }, 7, device), dtype_(dtype) {}
  bool has(const std::string& name) const override { return init_.has(name); }
  std::vector<int64_t> shape(const std::string& name) const override { return init_.shape(name); }
  at::Tensor take(const std::string& name, const std::vector<int64_t>& shape) override {
    const at::Tensor fresh = init_.take(name, shape);
    return (fresh + 0.1 * at::randn_like(fresh)).to(dtype_);
  }

 private:
  InitSource init_;
  at::ScalarType dtype_;
};

struct TinySkyReels {
  at::Device device;
  at::ScalarType dtype;
  skyreels::TransformerConfig config;
  std::unique_ptr<skyreels::Transformer> transformer;
  skyreels::TextKv cond, uncond;
  WindowGeometry geometry;

  TinySkyReels(at::Device d, at::ScalarType t, int64_t dim = 48) : device(d), dtype(t) {
    config = {.dim = dim,
              .ffn_dim = 4 * dim,
              .layers = 2,
              .heads = 2,
              .in_channels = 4,
              .out_channels = 4,
              .text_dim = 12,
              .freq_dim = 16};
    CastSource source(d, t);
    transformer = std::make_unique<skyreels::Transformer>(source, config);
    const auto f32 = at::TensorOptions().dtype(at::kFloat).device(device);
    cond = skyreels::prepare_text(*transformer, at::randn({6, 12}, f32));
    uncond = skyreels::prepare_text(*transformer, at::randn({6, 12}, f32));
    geometry.chunks = {{0, 3}, {3, 3}};
    geometry.latent_height = 8;
    geometry.latent_width = 6;
  }
  skyreels::SkyReelsBackbone backbone() const { return {*transformer, {&cond, &uncond}, geometry, 1}; }
};

}  // namespace longtake::test
