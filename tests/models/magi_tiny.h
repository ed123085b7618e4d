// A MAGI-1 transformer of a few thousand random weights, and the tests' view of its checkpoint.
#pragma once

#include <map>
#include <string>

#include <ATen/ops/arange.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/full.h>

#include "models/magi/transformer.h"
#include "tests/models/random_source.h"

namespace longtake::test {

inline magi::ModelConfig tiny_magi_config() {
  magi::ModelConfig c;
  c.layers = 2, c.dim = 64, c.ffn_dim = 48, c.heads = 4, c.kv_heads = 2, c.head_width = 16;
  c.in_channels = c.out_channels = 4;
  c.condition_dim = 16, c.caption_dim = 12, c.caption_length = 60;
  return c;
}

// Every weight by its checkpoint name.
inline std::map<std::string, at::Tensor> tiny_magi_weights(const magi::ModelConfig& c) {
  const int64_t D = c.dim, kv = c.kv_heads * c.head_width, d = c.head_width;
  std::vector<std::pair<std::string, std::vector<int64_t>>> shapes{
      {"x_embedder.weight", {D, c.in_channels, 1, 2, 2}},
      {"t_embedder.mlp.0.weight", {c.condition_dim, 256}},
      {"t_embedder.mlp.0.bias", {c.condition_dim}},
      {"t_embedder.mlp.2.weight", {c.condition_dim, c.condition_dim}},
      {"t_embedder.mlp.2.bias", {c.condition_dim}},
      {"y_embedder.null_caption_embedding", {c.caption_length, c.caption_dim}},
      {"y_embedder.y_proj_xattn.0.weight", {D, c.caption_dim}},
      {"y_embedder.y_proj_xattn.0.bias", {D}},
      {"y_embedder.y_proj_adaln.0.weight", {c.condition_dim, c.caption_dim}},
      {"y_embedder.y_proj_adaln.0.bias", {c.condition_dim}},
      {"rope.bands", {d / 8}},
      {"videodit_blocks.final_layernorm.weight", {D}},
      {"videodit_blocks.final_layernorm.bias", {D}},
      {"final_linear.linear.weight", {4 * c.out_channels, D}}};
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = fmt::format("videodit_blocks.layers.{}.", i), attention = layer + "self_attention.";
    for (const auto& [name, shape] : std::vector<std::pair<std::string, std::vector<int64_t>>>{
             {layer + "ada_modulate_layer.proj.0.weight", {2 * D, c.condition_dim}},
             {layer + "ada_modulate_layer.proj.0.bias", {2 * D}},
             {attention + "linear_qkv.q.weight", {D, D}},
             {attention + "linear_qkv.qx.weight", {D, D}},
             {attention + "linear_qkv.k.weight", {kv, D}},
             {attention + "linear_qkv.v.weight", {kv, D}},
             {attention + "linear_kv_xattn.weight", {2 * kv, D}},
             {attention + "linear_proj.weight", {D, 2 * D}},
             {layer + "mlp.linear_fc1.weight", {c.ffn_dim * (c.gated_mlp ? 2 : 1), D}},
             {layer + "mlp.linear_fc2.weight", {D, c.ffn_dim}}})
      shapes.emplace_back(name, shape);
    for (const std::string norm : {attention + "linear_qkv.layer_norm", layer + "self_attn_post_norm",
                                   layer + "mlp.layer_norm", layer + "mlp_post_norm"})
      shapes.push_back({norm + ".weight", {D}}), shapes.push_back({norm + ".bias", {D}});
    for (const std::string norm : {"q_layernorm", "k_layernorm", "q_layernorm_xattn", "k_layernorm_xattn"})
      shapes.push_back({attention + norm + ".weight", {d}}), shapes.push_back({attention + norm + ".bias", {d}});
  }
  return random_weights(shapes);
}

// The same with one linear layer as the quantised checkpoints have them (spec 2.9): e4m3, one weight scale, and inputs that are
// divided by a constant or, `smooth`, by a scale of each channel's own.
inline void quantise(std::map<std::string, at::Tensor>& weights, const std::string& name, bool smooth) {
  const at::Tensor weight = weights.at(name + ".weight");
  const int64_t in = weight.size(1);
  const double input_scale = 1.0 / 64;
  const at::Tensor even = smooth ? (at::arange(in, at::kFloat) * 0.7).cos() * 0.5 + 1.5 : at::full({in}, 1.0, at::kFloat);
  const at::Tensor scaled = weight * even;
  const at::Tensor scale = scaled.abs().max() / 448;
  weights[name + ".weight"] = (scaled / scale).to(at::kFloat8_e4m3fn).unsqueeze(0);
  weights[name + ".weight_scale"] = scale.view({1});
  weights[name + ".input_scale"] = at::full({smooth ? 1 : in}, input_scale, at::kFloat);
  if (smooth) weights[name + ".smooth_scale"] = (even * input_scale).view({1, in});
}

// Every linear layer that the published ones have so.
inline void quantise_layer(std::map<std::string, at::Tensor>& weights, int64_t index) {
  const std::string layer = fmt::format("videodit_blocks.layers.{}.", index);
  for (const char* name : {"self_attention.linear_qkv.q", "self_attention.linear_qkv.qx", "self_attention.linear_qkv.k",
                           "self_attention.linear_qkv.v", "mlp.linear_fc1"})
    quantise(weights, layer + name, false);
  for (const char* name : {"self_attention.linear_proj", "mlp.linear_fc2"}) quantise(weights, layer + name, true);
}

inline std::unique_ptr<magi::Transformer> tiny_magi(const magi::ModelConfig& config, bool distilled = false,
                                                    at::ScalarType dtype = at::kFloat) {
  MapSource source(tiny_magi_weights(config), dtype);
  return std::make_unique<magi::Transformer>(source, config, distilled);
}

}  // namespace longtake::test
