#include "models/magi/transformer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>

#include "base/error.h"
#include "base/op_scope.h"
#include "models/magi/rope.h"
#include "models/ops/gated_norm.h"
#include "models/ops/head_norm.h"
#include "models/ops/norm.h"
#include "models/ops/row_checks.h"
#include "models/ops/swiglu.h"

namespace longtake::magi {
namespace {

// The features of self and cross attention go alternately into the layer that joins them: 8 runs of each, whatever the
// number of heads (spec 2.6).
constexpr int64_t kInterleave = 8;

// The scope of a layer's tensors.
constexpr const char* kLayerName = "videodit_blocks.layers.{}.";

}  // namespace

Linear Transformer::take_linear(WeightSource& source, const std::string& name, int64_t out, int64_t in) {
  if (!is_quantised(source, name)) return {source.take(name + ".weight", {out, in}), {}};
  ++quantised_;
  return take_quantised(source, name, out, in, quantised_as_);
}

Transformer::Layer Transformer::take_layer(WeightSource& source, int64_t index) {
  const ModelConfig& c = config_;
  const int64_t D = c.dim, kv = c.kv_heads * c.head_width;
  const std::string scope = fmt::format(kLayerName, index), attention = scope + "self_attention.";
  const auto plain_norm = [&](const std::string& name) {
    return Norm{source.take(name + ".weight", {D}).to(at::kFloat), source.take(name + ".bias", {D}).to(at::kFloat)};
  };
  const double one = c.norm_plus_one ? 1 : 0;
  // Gains of these are stored less 1. Those of the text side are rounded to the working dtype, their sum included.
  const auto norm = [&](const std::string& name, int64_t width) {
    return Norm{source.take_float32(name + ".weight", {width}) + one, source.take_float32(name + ".bias", {width})};
  };
  const auto text_norm = [&](const std::string& name) {
    return Norm{(source.take(name + ".weight", {c.head_width}) + one).to(at::kFloat),
                source.take(name + ".bias", {c.head_width}).to(at::kFloat)};
  };
  Layer l;
  l.ada = take_linear(source, scope + "ada_modulate_layer.proj.0", 2 * D, c.condition_dim);
  l.ada.bias = source.take(scope + "ada_modulate_layer.proj.0.bias", {2 * D});
  l.norm = plain_norm(attention + "linear_qkv.layer_norm");
  l.q = take_linear(source, attention + "linear_qkv.q", D, D);
  l.k = take_linear(source, attention + "linear_qkv.k", kv, D);
  l.v = take_linear(source, attention + "linear_qkv.v", kv, D);
  l.text_q = take_linear(source, attention + "linear_qkv.qx", D, D);
  l.text_kv = take_linear(source, attention + "linear_kv_xattn", 2 * kv, D);
  l.q_norm = norm(attention + "q_layernorm", c.head_width);
  l.k_norm = norm(attention + "k_layernorm", c.head_width);
  l.text_q_norm = text_norm(attention + "q_layernorm_xattn");
  l.text_k_norm = text_norm(attention + "k_layernorm_xattn");
  l.out = take_linear(source, attention + "linear_proj", D, 2 * D);
  l.attention_post = norm(scope + "self_attn_post_norm", D);
  l.mlp_norm = plain_norm(scope + "mlp.layer_norm");
  l.mlp_in = take_linear(source, scope + "mlp.linear_fc1", c.ffn_dim * (c.gated_mlp ? 2 : 1), D);
  l.mlp_out = take_linear(source, scope + "mlp.linear_fc2", D, c.ffn_dim);
  l.mlp_post = norm(scope + "mlp_post_norm", D);
  return l;
}

Transformer::Transformer(WeightSource& source, const ModelConfig& config, bool distilled, QuantisedAs quantised_as)
    : config_(config), distilled_(distilled), quantised_as_(quantised_as) {
  const ModelConfig& c = config_;
  if (source.has(fmt::format(kLayerName, c.layers) + "self_attention.linear_qkv.q.weight"))
    fail_file("the checkpoint has more than the {} layers that num_layers says; is this the config of another model?",
              c.layers);
  patch_.weight = source.take_float32("x_embedder.weight", {c.dim, c.in_channels, 1, 2, 2}).reshape({c.dim, -1});
  null_caption_ = source.take_float32("y_embedder.null_caption_embedding", {c.caption_length, c.caption_dim});
  text_in_ = {source.take_float32("y_embedder.y_proj_xattn.0.weight", {c.dim, c.caption_dim}),
              source.take_float32("y_embedder.y_proj_xattn.0.bias", {c.dim})};
  bands_ = source.take_float32("rope.bands", {c.head_width / 8});
  for (int64_t i = 0; i < c.layers; ++i) layers_.push_back(take_layer(source, i));
  dtype_ = layers_.front().ada.bias.scalar_type();
  LONGTAKE_CHECK(in_fp8() == 0 || dtype_ == at::kBFloat16, "expected bfloat16 beside fp8 layers, found {}", c10::toString(dtype_));
  condition_ = Condition(source, c, null_caption_, dtype_);
  const double one = c.norm_plus_one ? 1 : 0;
  final_norm_ = {source.take_float32("videodit_blocks.final_layernorm.weight", {c.dim}) + one,
                 source.take_float32("videodit_blocks.final_layernorm.bias", {c.dim})};
  head_.weight = source.take_float32("final_linear.linear.weight", {4 * c.out_channels, c.dim});
}

std::vector<at::Tensor*> Transformer::tensors_of(Layer& l) {
  std::vector<at::Tensor*> tensors;
  for (Linear* linear : {&l.ada, &l.q, &l.k, &l.v, &l.text_q, &l.text_kv, &l.out, &l.mlp_in, &l.mlp_out})
    tensors.insert(tensors.end(), {&linear->weight, &linear->bias, &linear->scale, &linear->input_factors});
  for (Norm* norm : {&l.norm, &l.q_norm, &l.k_norm, &l.text_q_norm, &l.text_k_norm, &l.attention_post, &l.mlp_norm, &l.mlp_post})
    tensors.insert(tensors.end(), {&norm->gain, &norm->bias});
  return tensors;
}

void Transformer::offload(const at::Device& device) {
  LONGTAKE_CHECK(this->device().is_cpu() && !offloaded(), "expected weights on the CPU as they were loaded");
  const auto move = [&](at::Tensor& t) {
    if (t.defined()) t = t.to(device);
  };
  for (Linear* l : {&patch_, &text_in_, &head_}) move(l->weight), move(l->bias);
  for (at::Tensor* t : {&null_caption_, &bands_, &final_norm_.gain, &final_norm_.bias}) move(*t);
  condition_.to(device);
  auto store = std::make_unique<DeviceBlockStore>(device);
  for (Layer& layer : layers_) {
    const std::vector<at::Tensor*> tensors = tensors_of(layer);
    for (at::Tensor* t : tensors) move(*t);
    store->add(tensors);
  }
  store->finish();
  stream_ = std::make_unique<BlockStream>(*store, config_.layers);
  store_ = std::move(store);
}

at::Tensor Transformer::patch_embed(const at::Tensor& latents) const {
  LONGTAKE_CHECK(latents.dim() == 4 && latents.size(0) == config_.latent_channels() && latents.size(2) % 2 == 0 &&
                     latents.size(3) % 2 == 0,
                 "expected latents [C={}, F, even h, even w], found {} dimensions and {} channels",
                 config_.latent_channels(), latents.dim(), latents.size(0));
  const int64_t F = latents.size(1), gh = latents.size(2) / 2, gw = latents.size(3) / 2;
  at::Tensor x = latents.to(at::kFloat) * config_.x_rescale_factor;
  if (config_.half_channel_vae) x = at::cat({x, x});
  // Feature order of a patch is (channel, dy, dx): the layout of the convolution's weight.
  const at::Tensor patches = x.reshape({config_.in_channels, F, gh, 2, gw, 2})
                                 .permute({1, 2, 4, 0, 3, 5})
                                 .reshape({F * gh * gw, config_.in_channels * 4});
  return patch_(patches).to(dtype_);
}

at::Tensor Transformer::rotations(int64_t first_frame, int64_t frames, int64_t grid_h, int64_t grid_w) const {
  return rope_table(bands_, first_frame, frames, grid_h, grid_w);
}

at::Tensor Transformer::text_embed(const at::Tensor& caption) const { return at::silu(text_in_(caption)).to(dtype_); }

at::Tensor Transformer::split_heads(const at::Tensor& x) const { return x.view({x.size(0), -1, config_.head_width}); }

std::pair<at::Tensor, at::Tensor> Transformer::text_kv(int64_t layer, const at::Tensor& text) const {
  const Layer& l = layers_.at(layer);
  const BlockInUse in_use(stream_.get(), layer);
  const at::Tensor kv = l.text_kv(text).view({text.size(0), config_.kv_heads, 2 * config_.head_width});
  return {norm_heads(kv.narrow(2, 0, config_.head_width), l.text_k_norm.gain, l.text_k_norm.bias, config_.eps),
          kv.narrow(2, config_.head_width, config_.head_width).contiguous()};
}

at::Tensor Transformer::gates(int64_t layer, const at::Tensor& condition) const {
  const BlockInUse in_use(stream_.get(), layer);
  return layers_.at(layer).ada(at::silu(condition));
}

at::Tensor Transformer::join(const Layer& layer, const at::Tensor& joined) const {
  return layer.out.in_fp8() ? layer.out(joined) : layer.out.in_float32(joined);
}

at::Tensor Transformer::block(int64_t layer, const at::Tensor& x_in, const at::Tensor& condition,
                              const std::vector<int64_t>& rows, const at::Tensor& rotations,
                              const SelfAttention& self_attention, const CrossAttention& cross_attention) const {
  const Layer& l = layers_.at(layer);
  const BlockInUse in_use(stream_.get(), layer);
  const ModelConfig& c = config_;
  const int64_t n = x_in.size(0);
  // (Before each part: what a profile shows it under. The two attentions have scopes of their own.)
  std::optional<OpScope> scope;
  const auto enter = [&](const char* name, std::initializer_list<const Linear*> products = {}) {
    double flops = 0;
    for (const Linear* product : products) flops += 2.0 * static_cast<double>(n) * static_cast<double>(product->weight.numel());
    scope.emplace(name, OpCost{flops, 0});
  };

  enter("gates");
  const at::Tensor gates = at::tanh(l.ada(at::silu(condition)).to(at::kFloat)).to(dtype_).to(at::kFloat);
  // The gates come before the norms: their size is undone there, their sign and their shape over the channels stay.
  const auto add = [&](const at::Tensor& to, const at::Tensor& product, int64_t gate, const Norm& norm) {
    return add_gated_norm(to, product, gates.narrow(1, gate * c.dim, c.dim), rows, norm.gain, norm.bias, c.eps);
  };

  enter("norms and gates");
  at::Tensor z = norm_rows(x_in, l.norm.gain, l.norm.bias, c.eps);
  const auto multiplied = [&](const char* name, const Linear& product) {
    enter(name, {&product});
    return split_heads(product(z));
  };
  at::Tensor q = multiplied("product q k v", l.q);
  enter("q k norm, rotation");
  q = norm_heads(q, l.q_norm.gain, l.q_norm.bias, c.eps, rotations);
  at::Tensor k = multiplied("product q k v", l.k);
  enter("q k norm, rotation");
  k = norm_heads(k, l.k_norm.gain, l.k_norm.bias, c.eps, rotations);
  // One name for what comes and goes, and others let go, so that nothing is held longer than it is read.
  at::Tensor h = multiplied("product q k v", l.v);
  scope.reset();
  at::Tensor seen = self_attention(q, k, h);
  q = k = h = at::Tensor();
  h = multiplied("product q of text", l.text_q);
  z = at::Tensor();
  enter("q norm of text");
  h = norm_heads(h, l.text_q_norm.gain, l.text_q_norm.bias, c.eps);
  scope.reset();
  at::Tensor read = cross_attention(h);
  h = at::Tensor();
  enter("join attentions");
  const auto runs = [&](const at::Tensor& a) { return a.reshape({n, kInterleave, c.dim / kInterleave}); };
  h = at::stack({runs(seen), runs(read)}, 2).view({n, 2 * c.dim});
  seen = read = at::Tensor();

  enter("product o", {&l.out});
  h = join(l, h);
  enter("norms and gates");
  const at::Tensor x = add(x_in, h, 0, l.attention_post);
  h = norm_rows(x, l.mlp_norm.gain, l.mlp_norm.bias, c.eps);

  enter("feed forward", {&l.mlp_in, &l.mlp_out});
  h = l.mlp_in(h);
  if (c.gated_mlp)
    h = swiglu(h);
  else if (records_gradient({h}))
    h = at::gelu(h);
  else
    at::gelu_(h);
  h = l.mlp_out(h);
  enter("norms and gates");
  return add(x, h, 1, l.mlp_post);
}

at::Tensor Transformer::head(const at::Tensor& hidden, int64_t grid_h, int64_t grid_w) const {
  const int64_t plane = grid_h * grid_w, C = config_.out_channels;
  LONGTAKE_CHECK(hidden.dim() == 2 && hidden.size(0) % plane == 0, "expected frames of {} tokens, found {}", plane,
                 hidden.size(0));
  const int64_t F = hidden.size(0) / plane;
  const at::Tensor out = head_(layer_norm(hidden, final_norm_.gain, final_norm_.bias, config_.eps));
  // Feature order of an output patch is (dy, dx, channel): the other way round than at the input.
  const at::Tensor video =
      out.view({F, grid_h, grid_w, 2, 2, C}).permute({5, 0, 1, 3, 2, 4}).reshape({C, F, 2 * grid_h, 2 * grid_w});
  return video.narrow(0, 0, config_.latent_channels()) / config_.x_rescale_factor;
}

int64_t Transformer::in_fp8() const {
  int64_t count = 0;
  for (const Layer& l : layers_)
    for (const Linear* linear : {&l.q, &l.k, &l.v, &l.text_q, &l.text_kv, &l.out, &l.mlp_in, &l.mlp_out}) count += linear->in_fp8();
  return count;
}

int64_t Transformer::weight_bytes() const {
  int64_t bytes = condition_.weight_bytes();
  const auto add = [&](const at::Tensor& t) { bytes += t.defined() ? static_cast<int64_t>(t.nbytes()) : 0; };
  const auto add_linear = [&](const Linear& l) { add(l.weight), add(l.bias), add(l.scale), add(l.input_factors); };
  const auto add_norm = [&](const Norm& n) { add(n.gain), add(n.bias); };
  for (const Linear* l : {&patch_, &text_in_, &head_}) add_linear(*l);
  add(null_caption_), add(bands_), add_norm(final_norm_);
  for (const Layer& layer : layers_) {
    for (const Linear* l : {&layer.ada, &layer.q, &layer.k, &layer.v, &layer.text_q, &layer.text_kv, &layer.out,
                            &layer.mlp_in, &layer.mlp_out})
      add_linear(*l);
    for (const Norm* n : {&layer.norm, &layer.q_norm, &layer.k_norm, &layer.text_q_norm, &layer.text_k_norm,
                          &layer.attention_post, &layer.mlp_norm, &layer.mlp_post})
      add_norm(*n);
  }
  return bytes;
}

}  // namespace longtake::magi
