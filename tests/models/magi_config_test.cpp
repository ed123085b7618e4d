// MAGI-1's configuration file: complete ones, and everything that must be refused.
#include "models/magi/config.h"

#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/refused.h"

using namespace longtake;
using Json = nlohmann::json;

namespace {

// The 4.5B base model's.
Json base() {
  return Json::parse(R"({
    "model_config": {"model_name": "videodit_ardf", "num_layers": 34, "hidden_size": 3072, "ffn_hidden_size": 12288,
      "num_attention_heads": 24, "num_query_groups": 8, "kv_channels": 128, "layernorm_epsilon": 1e-06,
      "apply_layernorm_1p": true, "x_rescale_factor": 1, "half_channel_vae": false, "params_dtype": "torch.bfloat16",
      "patch_size": 2, "t_patch_size": 1, "in_channels": 16, "out_channels": 16, "cond_hidden_ratio": 0.25,
      "caption_channels": 4096, "caption_max_length": 800, "xattn_cond_hidden_ratio": 1.0, "cond_gating_ratio": 1.0,
      "gated_linear_unit": false},
    "runtime_config": {"cfg_number": 3, "cfg_t_range": [0.0, 0.0217, 0.1, 0.3, 0.999],
      "prev_chunk_scales": [1.5, 1.5, 1.5, 1.0, 1.0], "text_scales": [7.5, 7.5, 7.5, 0, 0], "noise2clean_kvrange": [5, 4, 3, 2],
      "clean_chunk_kvrange": 1, "clean_t": 0.9999, "seed": 1234, "num_frames": 96, "video_size_h": 720, "video_size_w": 720,
      "num_steps": 64, "window_size": 4, "fps": 24, "chunk_width": 6, "load": "", "t5_pretrained": "", "t5_device": "cpu",
      "vae_pretrained": "", "scale_factor": 0.18215, "temporal_downsample_factor": 4},
    "engine_config": {"distributed_backend": "nccl", "distributed_timeout_minutes": 15, "pp_size": 1, "cp_size": 1,
      "cp_strategy": "cp_ulysses", "ulysses_overlap_degree": 1, "fp8_quant": false,
      "distill_nearly_clean_chunk_threshold": 0.3, "shortcut_mode": "8,16,16", "distill": false, "kv_offload": true,
      "enable_cuda_graph": false}})");
}

std::string message(const Json& json) {
  return refused([&] { magi::Config::parse(json.dump(), "config.json"); });
}
std::string message(const char* section, const char* field, Json value) {
  Json json = base();
  json[section][field] = std::move(value);
  return message(json);
}
bool names(const std::string& text, const std::string& part) {
  INFO(text);
  return text.starts_with("config.json") && text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("MAGI-1's configuration is read") {
  const magi::Config c = magi::Config::parse(base().dump(), "config.json");
  CHECK(c.model.layers == 34);
  CHECK(c.model.condition_dim == 768);
  CHECK(c.model.latent_channels() == 16);
  CHECK(c.run.key_chunks == std::vector<int>{5, 4, 3, 2});
  CHECK(c.run.text_scales.at(1) == 7.5);
  CHECK(c.run.height == 720);
  CHECK_FALSE(c.engine.distilled);
  Json large = base();
  large["model_config"]["half_channel_vae"] = true;
  large["model_config"]["in_channels"] = large["model_config"]["out_channels"] = 32;
  CHECK(magi::Config::parse(large.dump(), "config.json").model.latent_channels() == 16);
  Json all = base();
  all["runtime_config"]["noise2clean_kvrange"] = Json::array();
  all["runtime_config"]["clean_chunk_kvrange"] = -1;
  CHECK(message(all) == "");
}

TEST_CASE("every field of MAGI-1's configuration is required and no other is known") {
  const Json whole = base();
  for (const auto& [section, fields] : whole.items()) {
    Json json = base();
    json.erase(section);
    CHECK(names(message(json), "'" + section + "'"));
    for (const auto& [field, value] : fields.items()) {
      json = base();
      json[section].erase(field);
      CHECK(names(message(json), "'" + field + "'"));
      // Of another type.
      json = base();
      json[section][field] = Json::object();
      CHECK(names(message(json), "'" + field + "'"));
    }
  }
  CHECK(names(message("model_config", "num_layer", 3), "unknown field 'num_layer' (did you mean 'num_layers'?)"));
  Json json = base();
  json["engine"] = Json::object();
  CHECK(names(message(json), "unknown section 'engine'"));
}

TEST_CASE("values of MAGI-1's configuration that make no sense are refused") {
  CHECK(names(message("model_config", "num_layers", 0), "'num_layers' must lie in 1"));
  CHECK(names(message("model_config", "num_layers", -3), "'num_layers' must lie in 1"));
  CHECK(names(message("model_config", "num_layers", 2.5), "'num_layers' must be an integer"));
  CHECK(names(message("model_config", "num_layers", 18446744073709551615u), "'num_layers' must lie in"));
  CHECK(names(message("model_config", "num_layers", true), "'num_layers' must be an integer"));
  CHECK(names(message("model_config", "hidden_size", 1e30), "'hidden_size' must be an integer"));
  CHECK(names(message("model_config", "hidden_size", 3000), "hidden_size 3000"));
  CHECK(names(message("model_config", "num_query_groups", 7), "no multiple of num_query_groups 7"));
  CHECK(names(message("model_config", "cond_hidden_ratio", 0.0003), "cond_hidden_ratio"));
  CHECK(names(message("model_config", "cond_hidden_ratio", 0.2501), "no whole number"));
  CHECK(names(message("model_config", "xattn_cond_hidden_ratio", 0.5), "xattn_cond_hidden_ratio"));
  CHECK(names(message("model_config", "patch_size", 4), "patch_size 2"));
  CHECK(names(message("model_config", "out_channels", 8), "out_channels 8"));
  CHECK(names(message("model_config", "x_rescale_factor", 0), "'x_rescale_factor'"));
  CHECK(names(message("runtime_config", "cfg_number", 1), "'cfg_number' must be 3 for a base model"));
  CHECK(names(message("engine_config", "distill", true), "'cfg_number' must be 1 for a distilled model"));
  CHECK(names(message("runtime_config", "cfg_t_range", {0.0, 0.5, 0.3, 0.8, 0.9}), "'cfg_t_range' must rise"));
  CHECK(names(message("runtime_config", "cfg_t_range", Json::array()), "'cfg_t_range'"));
  CHECK(names(message("runtime_config", "text_scales", {1}), "'text_scales'"));
  CHECK(names(message("runtime_config", "text_scales", {1, 2, 3, 4, "5"}), "'text_scales' must be a number"));
  CHECK(names(message("runtime_config", "text_scales", std::vector<int>(2000, 1)), "at most 1000"));
  CHECK(names(message("runtime_config", "noise2clean_kvrange", {5, 4, 3, 0}), "'noise2clean_kvrange'"));
  CHECK(names(message("runtime_config", "noise2clean_kvrange", {5, 4, 3, 2.5}), "'noise2clean_kvrange'"));
  CHECK(names(message("runtime_config", "noise2clean_kvrange", {5, 4, 3}), "'num_steps' 64 must be a multiple"));
  CHECK(names(message("runtime_config", "num_steps", 66), "'num_steps' 66 must be a multiple"));
  CHECK(names(message("runtime_config", "clean_chunk_kvrange", 0), "'clean_chunk_kvrange'"));
  CHECK(names(message("runtime_config", "video_size_w", 1080), "multiples of 16"));
  CHECK(names(message("engine_config", "shortcut_mode", "8,8,8"), "'shortcut_mode'"));
  for (const std::string text :
       {"", "[]", "null", "{", "{\"model_config\": 3}", "{\"model_config\": {}, \"model_config\": {}}", "{\"a\": NaN}"})
    CHECK(names(refused([&] { magi::Config::parse(text, "config.json"); }), ""));
}
