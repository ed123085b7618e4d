// The expected lists in tests/data/names are the state dicts of small models made with diffusers 0.36 and transformers:
// SkyReelsV2Transformer3DModel (3 layers; with fps embedding, and as image-to-video), AutoencoderKLWan with 1 and 2
// residual blocks a stage, UMT5EncoderModel (3 layers). A line is a name and a shape.
#include "models/weights/names.h"

#include <ATen/ops/zeros.h>

#include <cstdlib>
#include <set>

#include "models/weights/safetensors.h"
#include "tests/catch.h"
#include "tests/models/weights_files.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using test::TempFolder;

namespace {

std::set<std::string> expected_names(const std::string& file) {
  std::ifstream stream(std::string(LONGTAKE_SOURCE_DIR) + "/tests/data/names/" + file);
  REQUIRE(stream.good());
  std::set<std::string> names;
  for (std::string name, shape; stream >> name >> shape;) names.insert(name);
  return names;
}

// A checkpoint of empty tensors with these names.
Checkpoint checkpoint_of(const TempFolder& folder, const std::set<std::string>& names) {
  std::map<std::string, at::Tensor> tensors;
  for (const std::string& name : names) tensors[name] = at::zeros({0});
  save_safetensors(folder / "m.safetensors", tensors);
  return Checkpoint::open(folder / "m.safetensors");
}

std::set<std::string> mapped(const std::set<std::string>& names, const NameTable& table, Layout to) {
  std::set<std::string> result;
  for (const std::string& name : names) result.insert(table.translate(name, to));
  return result;
}

}  // namespace

TEST_CASE("names: the transformer's modules, trap by trap") {
  CHECK(to_diffusers_dit("patch_embedding.weight") == "patch_embedding.weight");
  CHECK(to_diffusers_dit("text_embedding.0.bias") == "condition_embedder.text_embedder.linear_1.bias");
  CHECK(to_diffusers_dit("time_embedding.2.weight") == "condition_embedder.time_embedder.linear_2.weight");
  CHECK(to_diffusers_dit("time_projection.1.weight") == "condition_embedder.time_proj.weight");
  CHECK(to_diffusers_dit("fps_embedding.weight") == "fps_embedding.weight");
  CHECK(to_diffusers_dit("fps_projection.0.bias") == "fps_projection.net.0.proj.bias");
  CHECK(to_diffusers_dit("blocks.12.norm3.weight") == "blocks.12.norm2.weight");
  CHECK(to_diffusers_dit("blocks.3.cross_attn.k.weight") == "blocks.3.attn2.to_k.weight");
  CHECK(to_diffusers_dit("blocks.3.cross_attn.k_img.weight") == "blocks.3.attn2.add_k_proj.weight");
  CHECK(to_diffusers_dit("blocks.3.cross_attn.norm_k_img.weight") == "blocks.3.attn2.norm_added_k.weight");
  CHECK(to_diffusers_dit("blocks.3.cross_attn.norm_k.weight") == "blocks.3.attn2.norm_k.weight");
  CHECK(to_diffusers_dit("blocks.3.modulation") == "blocks.3.scale_shift_table");
  CHECK(to_diffusers_dit("head.modulation") == "scale_shift_table");
  CHECK(to_diffusers_dit("head.head.weight") == "proj_out.weight");
  CHECK(to_diffusers_dit("blocks.0.self_attn.o.bias") == "blocks.0.attn1.to_out.0.bias");
  CHECK(to_diffusers_dit("img_emb.proj.4.bias") == "condition_embedder.image_embedder.norm2.bias");
  CHECK(to_diffusers_dit("model_type.SkyReels-V2-T2V-14B-540P") == "model_type.SkyReels-V2-T2V-14B-540P");
  CHECK(to_diffusers_dit("") == "");
}

TEST_CASE("names: the VAE's modules, row by row") {
  const VaeShape shape{2, 4};
  const std::vector<std::pair<std::string, std::string>> rows{
      {"conv1.weight", "quant_conv.weight"},
      {"conv2.bias", "post_quant_conv.bias"},
      {"encoder.conv1.weight", "encoder.conv_in.weight"},
      {"encoder.downsamples.0.residual.0.gamma", "encoder.down_blocks.0.norm1.gamma"},
      {"encoder.downsamples.2.resample.1.weight", "encoder.down_blocks.2.resample.1.weight"},
      {"encoder.downsamples.3.shortcut.weight", "encoder.down_blocks.3.conv_shortcut.weight"},
      {"encoder.downsamples.5.time_conv.bias", "encoder.down_blocks.5.time_conv.bias"},
      {"encoder.downsamples.10.residual.6.weight", "encoder.down_blocks.10.conv2.weight"},
      {"encoder.middle.0.residual.2.weight", "encoder.mid_block.resnets.0.conv1.weight"},
      {"encoder.middle.2.residual.3.gamma", "encoder.mid_block.resnets.1.norm2.gamma"},
      {"encoder.middle.1.norm.gamma", "encoder.mid_block.attentions.0.norm.gamma"},
      {"encoder.middle.1.to_qkv.weight", "encoder.mid_block.attentions.0.to_qkv.weight"},
      {"encoder.head.0.gamma", "encoder.norm_out.gamma"},
      {"decoder.head.2.weight", "decoder.conv_out.weight"},
      {"decoder.conv1.bias", "decoder.conv_in.bias"},
      {"decoder.upsamples.2.residual.2.weight", "decoder.up_blocks.0.resnets.2.conv1.weight"},
      {"decoder.upsamples.3.time_conv.weight", "decoder.up_blocks.0.upsamplers.0.time_conv.weight"},
      {"decoder.upsamples.4.shortcut.weight", "decoder.up_blocks.1.resnets.0.conv_shortcut.weight"},
      {"decoder.upsamples.7.resample.1.bias", "decoder.up_blocks.1.upsamplers.0.resample.1.bias"},
      {"decoder.upsamples.8.residual.0.gamma", "decoder.up_blocks.2.resnets.0.norm1.gamma"},
      {"decoder.upsamples.11.resample.1.weight", "decoder.up_blocks.2.upsamplers.0.resample.1.weight"},
      {"decoder.upsamples.14.residual.6.bias", "decoder.up_blocks.3.resnets.2.conv2.bias"},
  };
  const NameTable table = vae_names(shape);
  for (const auto& [original, diffusers] : rows) {
    CHECK(table.to_diffusers(original) == diffusers);
    CHECK(table.to_original(diffusers) == original);
  }
  CHECK(to_diffusers_vae("decoder.upsamples.4.residual.2.weight", {1, 4}) ==
        "decoder.up_blocks.1.resnets.1.conv1.weight");
}

TEST_CASE("names: every Diffusers name has an original of its own and comes back") {
  const auto check = [](const std::string& file, const NameTable& table, std::initializer_list<std::string> leftovers) {
    const auto names = expected_names(file);
    const auto originals = mapped(names, table, Layout::original);
    CHECK(originals.size() == names.size());
    CHECK(mapped(originals, table, Layout::diffusers) == names);
    for (const std::string& name : originals) {
      for (const std::string& word : leftovers) CHECK(name.find(word) == std::string::npos);
    }
  };
  for (const std::string file : {"dit_diffusers.txt", "dit_i2v_diffusers.txt"}) {
    check(file, dit_names(), {"attn1", "attn2", "condition_embedder", "scale_shift", "net.", "proj_out", "add_"});
  }
  check("vae1_diffusers.txt", vae_names({1, 4}), {"resnets", "_block", "conv_", "quant", "norm1", "norm2", "norm_out"});
  check("vae2_diffusers.txt", vae_names({2, 4}), {"resnets", "_block", "conv_", "quant", "norm1", "norm2", "norm_out"});
  check("umt5_hf.txt", umt5_names(), {"layer", "SelfAttention", "Dense", "encoder", "shared"});
}

TEST_CASE("names: layouts are told apart, translators follow") {
  const TempFolder folder;
  const auto layout_pair = [&](const std::string& file, const NameTable& table, auto detect, auto translator,
                               const std::string& probe) {
    const auto diffusers = expected_names(file);
    const auto originals = mapped(diffusers, table, Layout::original);
    for (const Layout layout : {Layout::original, Layout::diffusers}) {
      const Checkpoint checkpoint = checkpoint_of(folder, layout == Layout::original ? originals : diffusers);
      CHECK(detect(checkpoint) == layout);
      const NameTranslator translate = translator(checkpoint);
      CHECK(translate(probe) == (layout == Layout::original ? probe : table.to_diffusers(probe)));
      for (const std::string& name : originals) CHECK(checkpoint.contains(translate(name)));
    }
  };
  layout_pair("dit_i2v_diffusers.txt", dit_names(), detect_dit_layout, dit_translator, "head.modulation");
  layout_pair("umt5_hf.txt", umt5_names(), detect_umt5_layout, umt5_translator, "norm.weight");
  for (const int blocks : {1, 2}) {
    const VaeShape shape{blocks, 4};
    const std::string file = fmt::format("vae{}_diffusers.txt", blocks);
    layout_pair(file, vae_names(shape), detect_vae_layout, vae_translator, "decoder.upsamples.4.residual.2.weight");
    const auto names = expected_names(file);
    for (const auto& list : {names, mapped(names, vae_names(shape), Layout::original)}) {
      const VaeShape found = detect_vae_shape(checkpoint_of(folder, list));
      CHECK(found.res_blocks == blocks);
      CHECK(found.stages == 4);
    }
  }

  const Checkpoint tied = checkpoint_of(folder, {"encoder.embed_tokens.weight"});
  CHECK(detect_umt5_layout(tied) == Layout::diffusers);
  CHECK(umt5_translator(tied)("token_embedding.weight") == "encoder.embed_tokens.weight");

  const Checkpoint other = checkpoint_of(folder, {"x"});
  CHECK_THROWS_WITH(detect_dit_layout(other), ContainsSubstring("holds no SkyReels-V2 or Wan 2.1 transformer"));
  CHECK_THROWS_WITH(detect_vae_layout(other), ContainsSubstring("holds no Wan 2.1 VAE"));
  CHECK_THROWS_WITH(detect_umt5_layout(other), ContainsSubstring("holds no UMT5 text encoder"));
  const Checkpoint ragged = checkpoint_of(
      folder, {"decoder.conv1.weight", "decoder.upsamples.3.resample.1.weight", "decoder.upsamples.9.shortcut.weight"});
  CHECK_THROWS_WITH(detect_vae_shape(ragged), ContainsSubstring("no stages of equal length"));
  const Checkpoint bare = checkpoint_of(folder, {"decoder.conv1.weight"});
  CHECK_THROWS_WITH(detect_vae_shape(bare), ContainsSubstring("no stages of equal length"));
}

TEST_CASE("names: the golden checkpoints translate to exactly the reference's names") {
  const char* golden = std::getenv("LONGTAKE_GOLDEN");
  if (!golden) LONGTAKE_SKIP("LONGTAKE_GOLDEN is not set");
  const auto check = [&](const std::string& file, const std::string& expected, auto translator_table) {
    const Checkpoint checkpoint = Checkpoint::open(std::string(golden) + "/skyreels/" + file);
    auto wanted = expected_names(expected);
    const auto names = checkpoint.names();
    const std::set<std::string> found(names.begin(), names.end());
    // The lists have 3 layers, one golden transformer has 2.
    if (!checkpoint.contains("blocks.2.norm3.weight") && expected.starts_with("dit")) {
      std::erase_if(wanted, [](const std::string& name) { return name.starts_with("blocks.2."); });
    }
    INFO(file);
    CHECK(mapped(found, translator_table(checkpoint), Layout::diffusers) == wanted);
  };
  for (const std::string set : {"a", "b"}) {
    check(set + "/dit.safetensors", "dit_diffusers.txt", [](const Checkpoint&) { return dit_names(); });
    check(set + "/umt5.safetensors", "umt5_hf.txt", [](const Checkpoint&) { return umt5_names(); });
    check(set + "/vae.safetensors", "vae1_diffusers.txt",
          [](const Checkpoint& checkpoint) { return vae_names(detect_vae_shape(checkpoint)); });
  }
}
