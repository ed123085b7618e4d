// A transformer with small random weights and two prompts: whole runs in a fraction of a second.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/skyreels/backbone.h"
#include "models/weights/checkpoint_source.h"
#include "runtime/noise.h"

namespace longtake {

struct TinyModel {
  skyreels::TransformerConfig config{.dim = 48, .ffn_dim = 96, .layers = 2, .heads = 2, .in_channels = 16, .out_channels = 16,
                                     .text_dim = 12, .freq_dim = 16};
  std::unique_ptr<skyreels::Transformer> transformer;
  skyreels::TextKv cond, uncond;

  TinyModel() {
    class Live : public InitSource {  // the released head starts at zero; here it must say something
     public:
      using InitSource::InitSource;
      at::Tensor take(const std::string& name, const std::vector<int64_t>& shape) override {
        return name == "head.head.weight" ? normal(3, 9, shape) * 0.05 : InitSource::take(name, shape);
      }
    } source([](const std::string&) { return true; }, 7);
    transformer = std::make_unique<skyreels::Transformer>(source, config);
    cond = skyreels::prepare_text(*transformer, normal(1, 1, {5, 12}));
    uncond = skyreels::prepare_text(*transformer, normal(1, 2, {5, 12}));
  }

  std::unique_ptr<skyreels::SkyReelsBackbone> backbone(const WindowGeometry& geometry, std::vector<const skyreels::TextKv*> prompts = {}) const {
    return std::make_unique<skyreels::SkyReelsBackbone>(*transformer, std::vector<const skyreels::TextKv*>{&cond, &uncond}, geometry, 1,
                                                        std::move(prompts));
  }
};

}  // namespace longtake
