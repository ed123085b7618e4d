// A MAGI-1 model folder with its own configuration: the reference's names and layout, a few thousand random weights.
#pragma once

#include <nlohmann/json.hpp>

#include "models/magi_vae/config.h"
#include "models/umt5/encoder.h"
#include "models/weights/names.h"
#include "models/weights/safetensors.h"
#include "tests/models/magi_tiny.h"
#include "tests/models/npz_files.h"

namespace longtake::test {

class MagiFolder {
 public:
  static constexpr int64_t kTextDim = 16;

  explicit MagiFolder(bool distilled, bool fp8 = false) {
    model_ = tiny_magi_config();
    model_.layers = 3, model_.caption_dim = kTextDim;
    config_ = reference_config(distilled, fp8);
    transformer_ = tiny_magi_weights(model_);
    if (fp8) quantise_layer(transformer_, 1);
    write();
  }

  const std::filesystem::path& path() const { return folder_.path(); }
  std::filesystem::path transformer() const {
    const auto& engine = config_["engine_config"];
    return folder_ / (std::string("inference_weight") + (engine["fp8_quant"] ? ".fp8" : "") + (engine["distill"] ? ".distill" : ""));
  }

  // To be changed, and written again.
  nlohmann::json& config() { return config_; }
  std::map<std::string, at::Tensor>& weights() { return transformer_; }
  const magi::ModelConfig& model() const { return model_; }

  void write() const {
    namespace fs = std::filesystem;
    write_file(folder_ / "config.json", config_.dump(1));
    write_transformer();
    const fs::path vae = folder_ / "vae", t5 = folder_ / "t5/t5-v1_1-xxl";
    fs::create_directories(vae);
    write_file(vae / "config.json", vae_config().dump());
    save_safetensors(vae / "diffusion_pytorch_model.safetensors",
                     random_weights(list_magi_vae_weights(read_magi_vae_config(vae)), 2));
    fs::create_directories(t5);
    std::map<std::string, at::Tensor> encoder;
    const Umt5Sizes sizes{.vocabulary = 1000, .dim = kTextDim, .heads = 2, .head_dim = 8, .ffn = 24, .layers = 2, .position = PositionBias::shared};
    for (const auto& [name, tensor] : random_weights(list_umt5_weights(sizes), 3))
      encoder[name == "token_embedding.weight" ? "shared.weight" : to_diffusers_umt5(name)] = tensor;
    save_safetensors(t5 / "model.safetensors", encoder);
    fs::copy_file(LONGTAKE_SOURCE_DIR "/share/models/demo/tokenizer/spiece.model", t5 / "spiece.model", fs::copy_options::overwrite_existing);
    save_npz(folder_ / "special_tokens.npz", {{"caption_token", special_rows(1, kTextDim, 0.1)},
                                              {"logo_token", special_rows(1, kTextDim, -0.1)},
                                              {"other_tokens", special_rows(20, kTextDim, 0.01)}});
  }

 private:
  // Two shards and their index.
  void write_transformer() const {
    std::filesystem::create_directories(transformer());
    std::map<std::string, at::Tensor> shards[2];
    nlohmann::json index;
    for (const auto& [name, tensor] : transformer_) {
      const int shard = name < "videodit_blocks.layers.1" ? 0 : 1;
      shards[shard][name] = tensor.contiguous();
      index["weight_map"][name] = fmt::format("model-0000{}-of-00002.safetensors", shard + 1);
    }
    for (const int shard : {0, 1}) save_safetensors(transformer() / fmt::format("model-0000{}-of-00002.safetensors", shard + 1), shards[shard]);
    write_file(transformer() / "model.safetensors.index.json", index.dump());
  }

  nlohmann::json reference_config(bool distilled, bool fp8) const {
    const magi::ModelConfig& m = model_;
    return {{"model_config",
             {{"model_name", "videodit_ardf"}, {"num_layers", m.layers}, {"hidden_size", m.dim}, {"ffn_hidden_size", m.ffn_dim},
              {"num_attention_heads", m.heads}, {"num_query_groups", m.kv_heads}, {"kv_channels", m.head_width}, {"layernorm_epsilon", 1e-6},
              {"apply_layernorm_1p", true}, {"x_rescale_factor", 1}, {"half_channel_vae", false}, {"params_dtype", "torch.bfloat16"},
              {"patch_size", 2}, {"t_patch_size", 1}, {"in_channels", m.in_channels}, {"out_channels", m.out_channels},
              {"cond_hidden_ratio", 0.25}, {"caption_channels", m.caption_dim}, {"caption_max_length", m.caption_length},
              {"xattn_cond_hidden_ratio", 1.0}, {"cond_gating_ratio", 1.0}, {"gated_linear_unit", m.gated_mlp}}},
            {"runtime_config",
             {{"cfg_number", distilled || fp8 ? 1 : 3}, {"cfg_t_range", {0.0, 0.0217, 0.1, 0.3, 0.999}},
              {"prev_chunk_scales", {1.5, 1.5, 1.5, 1.0, 1.0}}, {"text_scales", {7.5, 7.5, 7.5, 0, 0}}, {"noise2clean_kvrange", {5, 4, 3, 2}},
              {"clean_chunk_kvrange", 1}, {"clean_t", 0.9999}, {"seed", 1234}, {"num_frames", 12}, {"video_size_h", 32}, {"video_size_w", 48},
              {"num_steps", 8}, {"window_size", 4}, {"fps", 24}, {"chunk_width", 2}, {"load", ""}, {"t5_pretrained", ""}, {"t5_device", "cpu"},
              {"vae_pretrained", ""}, {"scale_factor", 0.18215}, {"temporal_downsample_factor", 4}}},
            {"engine_config",
             {{"distributed_backend", "nccl"}, {"distributed_timeout_minutes", 15}, {"pp_size", 1}, {"cp_size", 1}, {"cp_strategy", "none"},
              {"ulysses_overlap_degree", 1}, {"fp8_quant", fp8}, {"distill_nearly_clean_chunk_threshold", 0.3},
              {"shortcut_mode", "8,16,16"}, {"distill", distilled}, {"kv_offload", true}, {"enable_cuda_graph", false}}}};
  }

  nlohmann::json vae_config() const {
    return {{"_class_name", "ViTVAE"}, {"model_type", "vit"},
            {"ddconfig",
             {{"video_size", 32}, {"video_length", 16}, {"patch_size", 8}, {"patch_length", 4}, {"in_chans", 3},
              {"z_chans", model_.latent_channels()}, {"double_z", true}, {"embed_dim", 256}, {"depth", 1}, {"num_heads", 4}, {"mlp_ratio", 1},
              {"qkv_bias", true}, {"with_cls_token", true}, {"norm_code", false}, {"ln_in_attn", true}, {"conv_last_layer", true},
              {"use_rope", false}, {"use_final_proj", false}}}};
  }

  TempFolder folder_;
  magi::ModelConfig model_;
  nlohmann::json config_;
  std::map<std::string, at::Tensor> transformer_;
};

// One with a recipe, and the demo model's VAE (Wan's) and text encoder: 6 chunks of 2 latent frames, 45 frames of 32 x 48 pixels.
class MagiWanFolder {
 public:
  // A transformer of these sizes, but for channels and captions, which follow from the demo model.
  explicit MagiWanFolder(magi::ModelConfig c = tiny_magi_config()) {
    c.in_channels = c.out_channels = 16, c.caption_dim = 128;
    std::filesystem::create_directories(folder_ / "transformer");
    std::map<std::string, at::Tensor> weights = tiny_magi_weights(c);
    for (auto& [name, tensor] : weights) tensor = tensor.contiguous();
    save_safetensors(folder_ / "transformer/model.safetensors", weights);
    const std::string demo = LONGTAKE_SOURCE_DIR "/share/models/demo";
    write_file(folder_ / "recipe.yaml",
               fmt::format("layouts: {{x: {{transformer: transformer, vae: {0}/vae, text_encoder: {0}/text_encoder, tokenizer: {0}/tokenizer/spiece.model}}}}\n"
                           "architecture: {{family: magi-1, dim: {1}, ffn: {2}, heads: {3}, kv_heads: {4}, layers: {5}, latent_channels: 16, text_dim: 128, "
                           "text_len: {6}, gated_mlp: {7}, vae_stages: [8, 16, 32, 64], vae_blocks: 1, umt5: true, distilled: true}}\n"
                           "defaults: {{policy: none, video: {{size: 32x48, frames: 45, fps: 24}}, sampling: {{steps: 8, chunk: 2, in_flight: 4, "
                           "special_tokens: none}}, run: {{dtype: fp32}}}}\n",
                           demo, c.dim, c.ffn_dim, c.heads, c.kv_heads, c.layers, c.caption_length, c.gated_mlp));
  }

  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  TempFolder folder_;
};

}  // namespace longtake::test
