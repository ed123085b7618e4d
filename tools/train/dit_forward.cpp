#include "tools/train/dit_forward.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "attention/rope.h"
#include "base/error.h"

namespace longtake::train {

skyreels::TransformerConfig demo_transformer(int64_t dim, int64_t layers, int64_t text_dim) {
  skyreels::TransformerConfig c;
  c.dim = dim, c.ffn_dim = 4 * dim, c.layers = layers, c.heads = dim / 64;
  c.in_channels = c.out_channels = 16;
  c.text_dim = text_dim, c.freq_dim = 256;
  return c;
}

at::Tensor predict(const skyreels::Transformer& model, const at::Tensor& x, const at::Tensor& timesteps, const at::Tensor& context,
                   bool causal) {
  const auto& c = model.config();
  const int64_t B = x.size(0), F = x.size(2), gh = x.size(3) / 2, gw = x.size(4) / 2, tokens = F * gh * gw;
  LONGTAKE_CHECK(!causal || F % kChunkFrames == 0, "expected whole chunks of {} frames, found {} frames", kChunkFrames, F);
  const skyreels::TimeEmbedding time = model.time_embed(timesteps.flatten(), 0);
  const FrameModulation modulation(time.E, std::vector<int64_t>(static_cast<size_t>(B * F), gh * gw));
  const at::Tensor rotation = rope_3d(F, gh, gw, c.head_width(), x.device()).repeat({B, 1});
  const at::Tensor text = model.text_embed(context.flatten(0, 1));
  const auto heads_first = [&](const at::Tensor& y) { return y.reshape({B, -1, c.heads, c.head_width()}).transpose(1, 2); };
  const auto packed = [&](const at::Tensor& y) { return y.transpose(1, 2).reshape({-1, c.heads, c.head_width()}); };

  const skyreels::SelfAttention self = [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    const at::Tensor bq = heads_first(q), bk = heads_first(k), bv = heads_first(v);
    if (!causal || F == kChunkFrames) return packed(at::scaled_dot_product_attention(bq, bk, bv));
    std::vector<at::Tensor> out;
    const int64_t chunk = kChunkFrames * gh * gw;
    for (int64_t end = chunk; end <= tokens; end += chunk)
      out.push_back(at::scaled_dot_product_attention(bq.narrow(2, end - chunk, chunk), bk.narrow(2, 0, end), bv.narrow(2, 0, end)));
    return packed(at::cat(out, 2));
  };
  at::Tensor z = model.patch_embed(x);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const auto [text_k, text_v] = model.text_kv(layer, text);
    const at::Tensor tk = heads_first(text_k), tv = heads_first(text_v);
    const skyreels::CrossAttention cross = [&](const at::Tensor& q) {
      return packed(at::scaled_dot_product_attention(heads_first(q), tk, tv));
    };
    z = model.block(layer, z, modulation, rotation, self, cross);
  }
  const at::Tensor velocity = model.head(z, time.e, gh, gw, B);
  return B == 1 ? velocity.unsqueeze(0) : velocity;
}

}  // namespace longtake::train
