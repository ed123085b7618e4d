#include "models/skyreels/transformer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>

#include "attention/rope.h"
#include "base/error.h"
#include "models/ops/residual_norm.h"

namespace longtake::skyreels {
namespace {

int64_t count_layers(const WeightSource& source) {
  int64_t layers = 0;
  while (source.has(fmt::format("blocks.{}.modulation", layers))) ++layers;
  return layers;
}

}  // namespace

Linear take_linear(WeightSource& source, const std::string& name, int64_t out, int64_t in) {
  return {source.take(name + ".weight", {out, in}), source.take(name + ".bias", {out})};
}

TransformerConfig TransformerConfig::from(const WeightSource& source, int64_t heads) {
  TransformerConfig c;
  const auto patch = source.shape("patch_embedding.weight");
  if (patch.size() != 5 || patch[2] != 1 || patch[3] != 2 || patch[4] != 2)
    fail_file("patch_embedding.weight must have the shape [dim, channels, 1, 2, 2]; is this a SkyReels-V2 or Wan 2.1 transformer?");
  c.dim = patch[0];
  c.in_channels = patch[1];
  c.layers = count_layers(source);
  if (c.layers == 0) fail_file("the transformer has no blocks.0.modulation; is this a SkyReels-V2 or Wan 2.1 transformer?");
  auto size = [&](const std::string& name, size_t axis) {
    const auto shape = source.shape(name);
    if (shape.size() <= axis) fail_file("{} must have {} dimensions or more, found {}", name, axis + 1, shape.size());
    return shape[axis];
  };
  c.ffn_dim = size("blocks.0.ffn.0.weight", 0);
  c.text_dim = size("text_embedding.0.weight", 1);
  c.freq_dim = size("time_embedding.0.weight", 1);
  c.out_channels = size("head.head.weight", 0) / 4;
  c.fps_embedding = source.has("fps_embedding.weight");
  c.heads = heads > 0 ? heads : c.dim / 128;
  if (c.heads <= 0 || c.dim % c.heads != 0 || (c.dim / c.heads) % 2 != 0)
    fail_file("a transformer of dim {} cannot have {} heads; check num_attention_heads in its config.json", c.dim, c.heads);
  if (source.has("blocks.0.cross_attn.k_img.weight"))
    fail_file("this is an image-to-video (I2V) transformer with CLIP inputs; longtake runs the diffusion-forcing (DF) and "
              "T2V ones, which also take images");
  return c;
}

Transformer::Transformer(WeightSource& source, const TransformerConfig& config) : config_(config) {
  const int64_t D = config.dim;
  patch_.weight = source.take("patch_embedding.weight", {D, config.in_channels, 1, 2, 2}).reshape({D, -1});
  patch_.bias = source.take("patch_embedding.bias", {D});
  text_in_ = take_linear(source, "text_embedding.0", D, config.text_dim);
  text_out_ = take_linear(source, "text_embedding.2", D, D);
  time_ = TimeEmbedder(source, config);
  auto take_attention = [&](const std::string& name) {
    return Attention{take_linear(source, name + ".q", D, D), take_linear(source, name + ".k", D, D),
                     take_linear(source, name + ".v", D, D), take_linear(source, name + ".o", D, D),
                     source.take(name + ".norm_q.weight", {D}), source.take(name + ".norm_k.weight", {D})};
  };
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string scope = fmt::format("blocks.{}.", i);
    blocks_.push_back(Block{source.take(scope + "modulation", {1, 6, D}), take_attention(scope + "self_attn"),
                            take_attention(scope + "cross_attn"), source.take(scope + "norm3.weight", {D}),
                            source.take(scope + "norm3.bias", {D}),
                            take_linear(source, scope + "ffn.0", config.ffn_dim, D),
                            take_linear(source, scope + "ffn.2", D, config.ffn_dim)});
  }
  head_modulation_ = source.take("head.modulation", {1, 2, D});
  head_ = take_linear(source, "head.head", 4 * config.out_channels, D);
}

// self.q, .k and .v as parts of the memory of the merged layer.
void Transformer::share_parts(Block& b) const {
  int64_t row = 0;
  for (Linear* part : {&b.self.q, &b.self.k, &b.self.v}) {
    part->weight = b.self_qkv.weight.narrow(0, row, config_.dim);
    part->bias = b.self_qkv.bias.narrow(0, row, config_.dim);
    if (b.self_qkv.in_fp8()) part->scale = b.self_qkv.scale.narrow(0, row, config_.dim);
    row += config_.dim;
  }
}

int64_t Transformer::to_fp8(Block& b) const {
  std::vector<Linear*> layers{&b.self.o, &b.cross.q, &b.cross.o, &b.ffn_in, &b.ffn_out};
  const bool merged = b.self_qkv.weight.defined();
  if (merged) {
    layers.push_back(&b.self_qkv);
    // Views of the old memory would keep it.
    for (Linear* part : {&b.self.q, &b.self.k, &b.self.v}) part->weight = at::Tensor();
  } else {
    layers.insert(layers.end(), {&b.self.q, &b.self.k, &b.self.v});
  }
  int64_t kept = 0;
  for (Linear* layer : layers) kept += layer->to_fp8() ? 0 : 1;
  if (merged) share_parts(b);
  return kept;
}

int64_t Transformer::to_fp8() {
  int64_t kept = 0;
  for (int64_t i = 0; i < config_.layers; ++i)
    if (fp8_layer(i)) kept += to_fp8(blocks_[i]);
  return kept;
}

void Transformer::merge_projections(Block& b) const {
  Attention& a = b.self;
  b.self_qkv = {at::cat({a.q.weight, a.k.weight, a.v.weight}), at::cat({a.q.bias, a.k.bias, a.v.bias})};
  share_parts(b);
  b.norm3_weight_f32 = b.norm3_weight.to(at::kFloat);
  b.norm3_bias_f32 = b.norm3_bias.to(at::kFloat);
}

void Transformer::merge_projections() {
  if (merged()) return;
  std::vector<at::Tensor> modulations;
  for (Block& b : blocks_) {
    merge_projections(b);
    modulations.push_back(b.modulation.to(at::kFloat));
  }
  modulations_ = at::cat(modulations);
}

int64_t Transformer::offload(const at::Device& device, bool merge, bool fp8) {
  LONGTAKE_CHECK(this->device().is_cpu() && !merged() && !offloaded(), "expected weights on the CPU as they were loaded");
  const auto move = [&](at::Tensor& t) {
    if (t.defined()) t = t.to(device);
  };
  const auto move_layer = [&](Linear& l) { move(l.weight), move(l.bias), move(l.scale); };
  for (Linear* l : {&patch_, &text_in_, &text_out_, &head_}) move_layer(*l);
  move(head_modulation_);
  time_.to(device);
  auto store = std::make_unique<DeviceBlockStore>(device);
  std::vector<at::Tensor> modulations;
  int64_t kept = 0;
  for (int64_t i = 0; i < config_.layers; ++i) {
    Block& b = blocks_[i];
    for (Attention* a : {&b.self, &b.cross}) {
      for (Linear* l : {&a->q, &a->k, &a->v, &a->o}) move_layer(*l);
      move(a->norm_q), move(a->norm_k);
    }
    for (at::Tensor* t : {&b.modulation, &b.norm3_weight, &b.norm3_bias}) move(*t);
    move_layer(b.ffn_in), move_layer(b.ffn_out);
    if (merge) {
      merge_projections(b);
      modulations.push_back(b.modulation.to(at::kFloat));
    }
    if (fp8 && fp8_layer(i)) kept += to_fp8(b);
    store->add(tensors_of(b));
  }
  if (merge) modulations_ = at::cat(modulations);
  store->finish();
  for (Block& b : blocks_)
    if (merge) share_parts(b);
  stream_ = std::make_unique<BlockStream>(*store, config_.layers);
  store_ = std::move(store);
  return kept;
}

// Everything of a block that has memory of its own.
std::vector<at::Tensor*> Transformer::tensors_of(Block& b) {
  std::vector<at::Tensor*> tensors{&b.modulation, &b.norm3_weight, &b.norm3_bias, &b.norm3_weight_f32, &b.norm3_bias_f32};
  const auto add = [&](Linear& l) { tensors.insert(tensors.end(), {&l.weight, &l.bias, &l.scale}); };
  for (Attention* a : {&b.self, &b.cross}) {
    const bool parts = a == &b.self && b.self_qkv.weight.defined();  // views of the merged layer
    for (Linear* l : {&a->q, &a->k, &a->v}) {
      if (parts)
        *l = {};
      else
        add(*l);
    }
    add(a->o);
    tensors.insert(tensors.end(), {&a->norm_q, &a->norm_k});
  }
  for (Linear* l : {&b.ffn_in, &b.ffn_out, &b.self_qkv}) add(*l);
  return tensors;
}

at::Tensor Transformer::patch_embed(const at::Tensor& latents) const {
  const at::Tensor x = latents.dim() == 4 ? latents.unsqueeze(0) : latents;
  LONGTAKE_CHECK(x.dim() == 5 && x.size(1) == config_.in_channels && x.size(3) % 2 == 0 && x.size(4) % 2 == 0,
                 "expected latents [C={}, F, even h, even w], found {} channels, {} x {}", config_.in_channels, x.size(1),
                 x.size(3), x.size(4));
  const int64_t B = x.size(0), C = x.size(1), F = x.size(2), gh = x.size(3) / 2, gw = x.size(4) / 2;
  // Feature order of a patch is (channel, dy, dx): the layout of the convolution's weight.
  const at::Tensor patches =
      x.reshape({B, C, F, gh, 2, gw, 2}).permute({0, 2, 3, 5, 1, 4, 6}).reshape({B * F * gh * gw, C * 4});
  return patch_(patches);
}

at::Tensor Transformer::text_embed(const at::Tensor& context) const {
  return text_out_(at::gelu(text_in_(context), "tanh"));
}

at::Tensor Transformer::heads_of(const at::Tensor& x) const {
  return x.view({x.size(0), config_.heads, config_.head_width()});
}

std::pair<at::Tensor, at::Tensor> Transformer::text_kv(int64_t layer, const at::Tensor& text) const {
  const Attention& a = blocks_.at(layer).cross;
  return {heads_of(rms_norm(a.k(text), a.norm_k, config_.eps).to(dtype())), heads_of(a.v(text))};
}

at::Tensor Transformer::block(int64_t layer, const at::Tensor& z_in, const FrameModulation& time,
                              const at::Tensor& rotations, const SelfAttention& self_attention,
                              const CrossAttention& cross_attention) const {
  const Block& b = blocks_.at(layer);
  const FrameModulation m = time.plus(b.modulation);
  at::Tensor z = z_in.to(at::kFloat);

  at::Tensor u = m.modulate(layer_norm(z, config_.eps), 0, 1).to(dtype());
  const at::Tensor q = apply_rope(heads_of(rms_norm(b.self.q(u), b.self.norm_q, config_.eps)), rotations);
  const at::Tensor k = apply_rope(heads_of(rms_norm(b.self.k(u), b.self.norm_k, config_.eps)), rotations);
  const at::Tensor v = heads_of(b.self.v(u));
  z = m.add_gated(z, b.self.o(self_attention(q.to(dtype()), k.to(dtype()), v).flatten(1)), 2);

  u = layer_norm(z.to(dtype()), b.norm3_weight, b.norm3_bias, config_.eps).to(dtype());
  const at::Tensor cq = heads_of(rms_norm(b.cross.q(u), b.cross.norm_q, config_.eps).to(dtype()));
  z = z + b.cross.o(cross_attention(cq).flatten(1)).to(at::kFloat);

  u = m.modulate(layer_norm(z, config_.eps), 3, 4).to(dtype());
  return m.add_gated(z, feed_forward(u, b.ffn_in, b.ffn_out), 5).to(dtype());
}

at::Tensor Transformer::head(const at::Tensor& hidden, const at::Tensor& e, int64_t grid_h, int64_t grid_w,
                             int64_t clips) const {
  const int64_t frames = e.size(0), plane = grid_h * grid_w, C = config_.out_channels;
  LONGTAKE_CHECK(hidden.size(0) == frames * plane && frames % clips == 0, "expected {} x {} tokens, found {}", frames,
                 plane, hidden.size(0));
  const at::Tensor vectors = e.unsqueeze(1) + head_modulation_.to(at::kFloat);  // [frames, 2, D]: shift, scale
  at::Tensor u;
  if (merged()) {
    const auto ints = at::TensorOptions().dtype(at::kInt).device(hidden.device());
    const at::Tensor frame = at::arange(frames, ints).unsqueeze(1).expand({frames, plane}).flatten().contiguous();
    u = at::empty(hidden.sizes(), hidden.options().dtype(at::kFloat));
    normalize_rows(u, hidden, RowNorm::modulation(vectors, frame, 0, 1, config_.eps));
  } else {
    const FrameModulation m(vectors, std::vector<int64_t>(frames, plane));
    u = m.modulate(layer_norm(hidden, config_.eps), 0, 1);
  }
  const at::Tensor out = head_.in_float32(u);
  // Feature order of an output patch is (dy, dx, channel): the other way round than at the input.
  const at::Tensor video = out.view({clips, frames / clips, grid_h, grid_w, 2, 2, C})
                               .permute({0, 6, 1, 2, 4, 3, 5})
                               .reshape({clips, C, frames / clips, 2 * grid_h, 2 * grid_w});
  return clips == 1 ? video.squeeze(0) : video;
}

int64_t Transformer::weight_bytes() const {
  int64_t bytes = time_.weight_bytes();
  auto add = [&](const at::Tensor& t) { bytes += t.defined() ? static_cast<int64_t>(t.nbytes()) : 0; };
  auto add_linear = [&](const Linear& l) { add(l.weight), add(l.bias), add(l.scale); };
  for (const Linear* l : {&patch_, &text_in_, &text_out_, &head_})
    add_linear(*l);
  add(head_modulation_);
  for (const Block& b : blocks_) {
    for (const Attention* a : {&b.self, &b.cross}) {
      for (const Linear* l : {&a->q, &a->k, &a->v, &a->o}) add_linear(*l);
      add(a->norm_q), add(a->norm_k);
    }
    add(b.modulation), add(b.norm3_weight), add(b.norm3_bias), add_linear(b.ffn_in), add_linear(b.ffn_out);
  }
  return bytes;
}

}  // namespace longtake::skyreels
