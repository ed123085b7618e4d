#include "tools/train/export.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/wan_vae/latent_stats.h"
#include "models/weights/checkpoint.h"
#include "models/weights/names.h"
#include "models/weights/safetensors.h"
#include "tools/train/prompts.h"

namespace longtake::train {
namespace {

using nlohmann::json;
constexpr const char* kDiffusers = "0.36.0";

void write_json(const std::filesystem::path& path, const json& value) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream out(path);
  out << value.dump(2) << '\n';
  if (!out.flush()) fail_file("{} cannot be written", path.string());
}

template <class Rename>
void convert(const std::filesystem::path& from, const std::filesystem::path& to, at::ScalarType dtype, Rename rename) {
  const Checkpoint file = Checkpoint::open(from);
  std::map<std::string, at::Tensor> tensors;
  for (const std::string& name : file.names()) tensors[rename(name)] = file.tensor(name).to(dtype);
  std::filesystem::create_directories(to.parent_path());
  save_safetensors(to, tensors, {{"format", "pt"}});
}

json transformer_config(const Checkpoint& file) {
  int64_t layers = 0;
  while (file.contains(fmt::format("blocks.{}.modulation", layers))) ++layers;
  const int64_t dim = file.info("patch_embedding.weight").shape[0];
  return {{"_class_name", "SkyReelsV2Transformer3DModel"},
          {"_diffusers_version", kDiffusers},
          {"added_kv_proj_dim", nullptr},
          {"attention_head_dim", 64},
          {"cross_attn_norm", true},
          {"eps", 1e-6},
          {"ffn_dim", file.info("blocks.0.ffn.0.weight").shape[0]},
          {"freq_dim", file.info("time_embedding.0.weight").shape[1]},
          {"image_dim", nullptr},
          {"in_channels", 16},
          {"inject_sample_info", false},
          {"num_attention_heads", dim / 64},
          {"num_frame_per_block", 1},
          {"num_layers", layers},
          {"out_channels", 16},
          {"patch_size", {1, 2, 2}},
          {"pos_embed_seq_len", nullptr},
          {"qk_norm", "rms_norm_across_heads"},
          {"rope_max_seq_len", 1024},
          {"text_dim", file.info("text_embedding.0.weight").shape[1]}};
}

json vae_config() {
  return {{"_class_name", "AutoencoderKLWan"},
          {"_diffusers_version", kDiffusers},
          {"attn_scales", json::array()},
          {"base_dim", 8},
          {"dim_mult", {1, 2, 4, 8}},
          {"dropout", 0.0},
          {"latents_mean", kWanLatentMean},
          {"latents_std", kWanLatentDeviation},
          {"num_res_blocks", 1},
          {"temperal_downsample", {false, true, true}},
          {"z_dim", 16}};
}

json text_config(const Checkpoint& file) {
  const Umt5Sizes sizes = demo_text_sizes();
  return {{"architectures", {"UMT5EncoderModel"}},
          {"model_type", "umt5"},
          {"d_model", sizes.dim},
          {"d_kv", sizes.head_dim},
          {"d_ff", sizes.ffn},
          {"num_layers", sizes.layers},
          {"num_heads", sizes.heads},
          {"vocab_size", file.info("token_embedding.weight").shape[0]},
          {"relative_attention_num_buckets", sizes.buckets},
          {"relative_attention_max_distance", 128},
          {"feed_forward_proj", "gated-gelu"},
          {"is_gated_act", true},
          {"dense_act_fn", "gelu_new"},
          {"dropout_rate", 0.0},
          {"layer_norm_epsilon", 1e-6},
          {"is_encoder_decoder", true},
          {"use_cache", false},
          {"pad_token_id", 0},
          {"eos_token_id", 1},
          {"decoder_start_token_id", 0},
          {"tie_word_embeddings", false}};
}

}  // namespace

void export_model(const ExportOptions& options) {
  const auto& from = options.folder;
  const auto& to = options.model;
  convert(from / "dit.safetensors", to / "transformer" / "diffusion_pytorch_model.safetensors", at::kBFloat16, to_diffusers_dit);
  write_json(to / "transformer" / "config.json", transformer_config(Checkpoint::open(from / "dit.safetensors")));
  // The constructed encoder counts on float32: its features stand next to constants a hundred times their size.
  const VaeShape shape{.res_blocks = 1, .stages = 4};
  convert(from / "vae.safetensors", to / "vae" / "diffusion_pytorch_model.safetensors", at::kFloat,
          [&](const std::string& name) { return to_diffusers_vae(name, shape); });
  write_json(to / "vae" / "config.json", vae_config());
  convert(from / "text.safetensors", to / "text_encoder" / "model.safetensors", at::kBFloat16, to_diffusers_umt5);
  write_json(to / "text_encoder" / "config.json", text_config(Checkpoint::open(from / "text.safetensors")));
  const auto tokenizer = to / "tokenizer";
  std::filesystem::create_directories(tokenizer);
  std::filesystem::copy_file(from / "spiece.model", tokenizer / "spiece.model", std::filesystem::copy_options::overwrite_existing);
  const json specials = {{"eos_token", "</s>"}, {"pad_token", "<pad>"}, {"unk_token", "<unk>"}};
  write_json(tokenizer / "special_tokens_map.json", specials);
  json settings = specials;
  settings.update({{"tokenizer_class", "T5Tokenizer"}, {"model_max_length", kTextLength}, {"extra_ids", 0},
                   {"additional_special_tokens", json::array()}, {"legacy", true}, {"clean_up_tokenization_spaces", false}});
  write_json(tokenizer / "tokenizer_config.json", settings);
  write_json(to / "scheduler" / "scheduler_config.json",
             {{"_class_name", "UniPCMultistepScheduler"},
              {"_diffusers_version", kDiffusers},
              {"num_train_timesteps", 1000},
              {"prediction_type", "flow_prediction"},
              {"use_flow_sigmas", true},
              {"flow_shift", options.flow_shift},
              {"solver_order", 2},
              {"solver_type", "bh2"},
              {"predict_x0", true},
              {"lower_order_final", true}});
  write_json(to / "model_index.json", {{"_class_name", "SkyReelsV2DiffusionForcingPipeline"},
                                       {"_diffusers_version", kDiffusers},
                                       {"scheduler", {"diffusers", "UniPCMultistepScheduler"}},
                                       {"text_encoder", {"transformers", "UMT5EncoderModel"}},
                                       {"tokenizer", {"transformers", "T5Tokenizer"}},
                                       {"transformer", {"diffusers", "SkyReelsV2Transformer3DModel"}},
                                       {"vae", {"diffusers", "AutoencoderKLWan"}}});
}

}  // namespace longtake::train
