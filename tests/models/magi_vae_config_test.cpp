// config.json of MAGI-1's VAE: what it says, and hostile ones.
#include <functional>

#include "models/magi_vae/config.h"
#include "tests/catch.h"
#include "tests/refused.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

const std::string kReleased = R"({"_class_name": "ViTVAE", "model_type": "vit", "ddconfig": {
  "video_size": 256, "video_length": 16, "patch_size": 8, "patch_length": 4, "in_chans": 3, "z_chans": 16,
  "double_z": true, "embed_dim": 1024, "depth": 24, "num_heads": 16, "mlp_ratio": 4, "qkv_bias": true,
  "with_cls_token": true, "norm_code": false, "ln_in_attn": true, "conv_last_layer": true, "use_rope": false,
  "use_final_proj": false}})";

MagiVaeConfig parse(const std::string& text) {
  return parse_magi_vae_config({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, "config.json");
}

std::string with(const std::string& from, const std::string& to) {
  std::string text = kReleased;
  const size_t at = text.find(from);
  REQUIRE(at != text.npos);
  return text.replace(at, from.size(), to);
}

std::string refusal(const std::string& from, const std::string& to) {
  return refused([&] { parse(with(from, to)); });
}

}  // namespace

TEST_CASE("MAGI-1's VAE: the released config and its weights") {
  const MagiVaeConfig config = parse(kReleased);
  CHECK(config.grid() == 32);
  CHECK(config.grid_length() == 4);
  CHECK(config.head_dim() == 64);
  CHECK(config.ffn == 4096);
  CHECK(config.pixel_values() == 4);
  int64_t encoder = 0, decoder = 0;
  for (const auto& [name, shape] : list_magi_vae_weights(config)) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    (name.starts_with("encoder.") ? encoder : decoder) += count;
  }
  CHECK(encoder == 307'278'880);
  CHECK(decoder == 306'476'359);
  // Switches that are off may be missing, and other programs' notes beside the sizes do not matter.
  CHECK(parse(with(R"("norm_code": false, )", "")).dim == 1024);
  CHECK(parse(with(R"("_class_name")", R"("_diffusers_version": "0.29", "_class_name")")).dim == 1024);
  CHECK(parse(with(R"("mlp_ratio": 4)", R"("mlp_ratio": 4.0)")).ffn == 4096);
}

TEST_CASE("MAGI-1's VAE: hostile configs are refused") {
  CHECK_THAT(refusal("ViTVAE", "AutoencoderKL"), ContainsSubstring("ViTVAE"));
  CHECK_THAT(refusal(R"("vit")", "7"), ContainsSubstring("'model_type'"));
  CHECK_THAT(refusal("ddconfig", "ddconf"), ContainsSubstring("'ddconfig'"));
  CHECK_THAT(refused([] { parse(R"({"_class_name": "ViTVAE", "model_type": "vit", "ddconfig": []})"); }),
             ContainsSubstring("'ddconfig'"));
  for (const char* field :
       {"video_size", "video_length", "patch_size", "patch_length", "in_chans", "z_chans", "double_z", "embed_dim",
        "depth", "num_heads", "mlp_ratio", "qkv_bias", "with_cls_token", "ln_in_attn", "conv_last_layer"}) {
    INFO(field);
    CHECK_THAT(refusal(fmt::format("\"{}\"", field), "\"other\""), ContainsSubstring(field));
  }
  for (const char* bad : {"0", "-8", "8.5", "1e300", "\"8\"", "null", "[]", "70000"}) {
    INFO(bad);
    CHECK_THAT(refusal(R"("patch_size": 8)", fmt::format("\"patch_size\": {}", bad)), ContainsSubstring("patch_size"));
  }
  CHECK_THAT(refusal(R"("mlp_ratio": 4)", R"("mlp_ratio": -1)"), ContainsSubstring("mlp_ratio"));
  CHECK_THAT(refusal(R"("mlp_ratio": 4)", R"("mlp_ratio": 1e300)"), ContainsSubstring("mlp_ratio"));
  CHECK_THAT(refusal(R"("use_rope": false)", R"("use_rope": true)"), ContainsSubstring("use_rope"));
  CHECK_THAT(refusal(R"("use_rope": false)", R"("use_rope": 0)"), ContainsSubstring("use_rope"));
  CHECK_THAT(refusal(R"("qkv_bias": true)", R"("qkv_bias": false)"), ContainsSubstring("qkv_bias"));
  CHECK_THAT(refusal(R"("use_rope")", R"("use_ropes")"), ContainsSubstring("did you mean 'use_rope'"));
  CHECK_THAT(refusal(R"("in_chans": 3)", R"("in_chans": 4)"), ContainsSubstring("in_chans"));
  CHECK_THAT(refusal(R"("video_size": 256)", R"("video_size": 250)"), ContainsSubstring("multiple of patch_size 8"));
  CHECK_THAT(refusal(R"("video_length": 16)", R"("video_length": 15)"), ContainsSubstring("patch_length 4"));
  CHECK_THAT(refusal(R"("num_heads": 16)", R"("num_heads": 12)"), ContainsSubstring("num_heads 12"));
  CHECK_THAT(refusal(R"("embed_dim": 1024)", R"("embed_dim": 1040)"), ContainsSubstring("pixels of a patch"));
  CHECK_THAT(refusal(R"("depth": 24)", R"("depth": 24, "depth": 25)"), ContainsSubstring("depth"));
}
