#include "models/weights/names.h"

#include "base/error.h"

namespace longtake {
namespace {

using Row = NameTable::Row;

std::vector<std::string> split(std::string_view name) {
  std::vector<std::string> parts;
  for (size_t begin = 0;;) {
    const size_t dot = name.find('.', begin);
    parts.emplace_back(name.substr(begin, dot - begin));
    if (dot == std::string_view::npos) return parts;
    begin = dot + 1;
  }
}

// `name` with the first rule that fits: all of `from`, then at most a parameter name ("weight", "bias", "gamma").
std::optional<std::string> rewrite(const std::vector<std::string>& name, const std::vector<std::string>& from,
                                   const std::vector<std::string>& to) {
  const bool parameter =
      name.size() == from.size() + 1 && (name.back() == "weight" || name.back() == "bias" || name.back() == "gamma");
  if (name.size() != from.size() && !parameter) return std::nullopt;
  std::vector<std::string> wild;
  for (size_t i = 0; i < from.size(); ++i) {
    if (from[i] == "*") {
      wild.push_back(name[i]);
    } else if (from[i] != name[i]) {
      return std::nullopt;
    }
  }
  std::string result;
  size_t next = 0;
  for (const std::string& part : to) result += (result.empty() ? "" : ".") + (part == "*" ? wild[next++] : part);
  return parameter ? result + "." + name.back() : result;
}

const std::vector<Row> dit_rows{
    {"text_embedding.0", "condition_embedder.text_embedder.linear_1"},
    {"text_embedding.2", "condition_embedder.text_embedder.linear_2"},
    {"time_embedding.0", "condition_embedder.time_embedder.linear_1"},
    {"time_embedding.2", "condition_embedder.time_embedder.linear_2"},
    {"time_projection.1", "condition_embedder.time_proj"},
    {"fps_projection.0", "fps_projection.net.0.proj"},
    {"fps_projection.2", "fps_projection.net.2"},
    {"img_emb.proj.0", "condition_embedder.image_embedder.norm1"},
    {"img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"},
    {"img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"},
    {"img_emb.proj.4", "condition_embedder.image_embedder.norm2"},
    {"head.modulation", "scale_shift_table"},
    {"head.head", "proj_out"},
    {"blocks.*.modulation", "blocks.*.scale_shift_table"},
    {"blocks.*.self_attn.q", "blocks.*.attn1.to_q"},
    {"blocks.*.self_attn.k", "blocks.*.attn1.to_k"},
    {"blocks.*.self_attn.v", "blocks.*.attn1.to_v"},
    {"blocks.*.self_attn.o", "blocks.*.attn1.to_out.0"},
    {"blocks.*.self_attn.norm_q", "blocks.*.attn1.norm_q"},
    {"blocks.*.self_attn.norm_k", "blocks.*.attn1.norm_k"},
    {"blocks.*.cross_attn.q", "blocks.*.attn2.to_q"},
    {"blocks.*.cross_attn.k", "blocks.*.attn2.to_k"},
    {"blocks.*.cross_attn.v", "blocks.*.attn2.to_v"},
    {"blocks.*.cross_attn.o", "blocks.*.attn2.to_out.0"},
    {"blocks.*.cross_attn.norm_q", "blocks.*.attn2.norm_q"},
    {"blocks.*.cross_attn.norm_k", "blocks.*.attn2.norm_k"},
    {"blocks.*.cross_attn.k_img", "blocks.*.attn2.add_k_proj"},
    {"blocks.*.cross_attn.v_img", "blocks.*.attn2.add_v_proj"},
    {"blocks.*.cross_attn.norm_k_img", "blocks.*.attn2.norm_added_k"},
    // The original counts the affine norm before cross-attention last, Diffusers counts in order of use.
    {"blocks.*.norm3", "blocks.*.norm2"},
    {"blocks.*.ffn.0", "blocks.*.ffn.net.0.proj"},
    {"blocks.*.ffn.2", "blocks.*.ffn.net.2"},
};

const std::vector<Row> umt5_rows{
    {"token_embedding", "shared"},
    {"norm", "encoder.final_layer_norm"},
    {"blocks.*.norm1", "encoder.block.*.layer.0.layer_norm"},
    {"blocks.*.attn.q", "encoder.block.*.layer.0.SelfAttention.q"},
    {"blocks.*.attn.k", "encoder.block.*.layer.0.SelfAttention.k"},
    {"blocks.*.attn.v", "encoder.block.*.layer.0.SelfAttention.v"},
    {"blocks.*.attn.o", "encoder.block.*.layer.0.SelfAttention.o"},
    {"blocks.*.pos_embedding.embedding", "encoder.block.*.layer.0.SelfAttention.relative_attention_bias"},
    {"blocks.*.norm2", "encoder.block.*.layer.1.layer_norm"},
    {"blocks.*.ffn.gate.0", "encoder.block.*.layer.1.DenseReluDense.wi_0"},
    {"blocks.*.ffn.fc1", "encoder.block.*.layer.1.DenseReluDense.wi_1"},
    {"blocks.*.ffn.fc2", "encoder.block.*.layer.1.DenseReluDense.wo"},
};

// What lies inside a residual block and in a resampler.
const std::vector<Row> vae_residual_rows{
    {"residual.0", "norm1"}, {"residual.2", "conv1"},       {"residual.3", "norm2"},
    {"residual.6", "conv2"}, {"shortcut", "conv_shortcut"},
};
const std::vector<Row> vae_resample_rows{{"resample.1", "resample.1"}, {"time_conv", "time_conv"}};

}  // namespace

NameTable::NameTable(const std::vector<Row>& rows) {
  for (const Row& row : rows) rows_.emplace_back(split(row.original), split(row.diffusers));
}

std::string NameTable::to_diffusers(const std::string& original) const {
  const auto name = split(original);
  for (const auto& [from, to] : rows_) {
    if (auto result = rewrite(name, from, to)) return *result;
  }
  return original;
}

std::string NameTable::to_original(const std::string& diffusers) const {
  const auto name = split(diffusers);
  for (const auto& [to, from] : rows_) {
    if (auto result = rewrite(name, from, to)) return *result;
  }
  return diffusers;
}

const NameTable& dit_names() {
  static const NameTable table(dit_rows);
  return table;
}

const NameTable& umt5_names() {
  static const NameTable table(umt5_rows);
  return table;
}

NameTable vae_names(VaeShape shape) {
  std::vector<Row> rows{{"conv1", "quant_conv"}, {"conv2", "post_quant_conv"}};
  const auto add = [&](const std::string& original, const std::string& diffusers, const std::vector<Row>& inside) {
    for (const Row& row : inside) rows.push_back({original + "." + row.original, diffusers + "." + row.diffusers});
  };
  for (const std::string side : {"encoder", "decoder"}) {
    rows.push_back({side + ".conv1", side + ".conv_in"});
    rows.push_back({side + ".head.0", side + ".norm_out"});
    rows.push_back({side + ".head.2", side + ".conv_out"});
    add(side + ".middle.0", side + ".mid_block.resnets.0", vae_residual_rows);
    add(side + ".middle.1", side + ".mid_block.attentions.0",
        {{"norm", "norm"}, {"to_qkv", "to_qkv"}, {"proj", "proj"}});
    add(side + ".middle.2", side + ".mid_block.resnets.1", vae_residual_rows);
  }
  // The encoder's stages are one flat list in both namings, the decoder's only in the original.
  add("encoder.downsamples.*", "encoder.down_blocks.*", vae_residual_rows);
  add("encoder.downsamples.*", "encoder.down_blocks.*", vae_resample_rows);
  int flat = 0;
  for (int stage = 0; stage < shape.stages; ++stage) {
    const std::string block = fmt::format("decoder.up_blocks.{}", stage);
    for (int i = 0; i <= shape.res_blocks; ++i) {
      add(fmt::format("decoder.upsamples.{}", flat++), fmt::format("{}.resnets.{}", block, i), vae_residual_rows);
    }
    if (stage + 1 < shape.stages) {
      add(fmt::format("decoder.upsamples.{}", flat++), block + ".upsamplers.0", vae_resample_rows);
    }
  }
  return NameTable(rows);
}

std::string to_diffusers_dit(const std::string& original) { return dit_names().to_diffusers(original); }
std::string to_diffusers_umt5(const std::string& original) { return umt5_names().to_diffusers(original); }
std::string to_diffusers_vae(const std::string& original, VaeShape shape) {
  return vae_names(shape).to_diffusers(original);
}

}  // namespace longtake
