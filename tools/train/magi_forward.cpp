#include "tools/train/magi_forward.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tensor.h>

#include "base/error.h"
#include "models/magi/text_rows.h"

namespace longtake::train {
namespace {

// All texts padded to one length, the null caption first.
struct Texts {
  at::Tensor rows;  // [(T + 1) * L, dim] in the working dtype
  at::Tensor mask;  // [T + 1, L], true where a row counts
  int64_t length;
};

Texts join_texts(const magi::Transformer& model, const at::Tensor& captions, const std::vector<int64_t>& lengths) {
  const at::Tensor none = magi::null_rows(model.null_caption(), {}, {});
  // A multiple of 8, for the kernels' sake.
  const int64_t length = (std::max(none.size(0), captions.size(1)) + 7) / 8 * 8;
  const auto padded = [&](const at::Tensor& rows) { return at::constant_pad_nd(rows.to(at::kFloat), {0, 0, 0, length - rows.size(-2)}); };
  std::vector<int64_t> counts{none.size(0)};
  counts.insert(counts.end(), lengths.begin(), lengths.end());
  const at::Tensor all = at::cat({padded(none).unsqueeze(0), padded(captions.to(none.device()))});
  const at::Tensor position = at::arange(length, at::TensorOptions().dtype(at::kLong).device(none.device()));
  return {model.text_embed(all.flatten(0, 1)), position < at::tensor(counts, at::kLong).to(none.device()).unsqueeze(1), length};
}

}  // namespace

at::Tensor predict(const magi::Transformer& model, const MagiWindows& w, const at::Tensor& captions, const std::vector<int64_t>& lengths) {
  const magi::ModelConfig& c = model.config();
  const int64_t B = w.latents.size(0), F = w.latents.size(2), gh = w.latents.size(3) / 2, gw = w.latents.size(4) / 2;
  const auto chunks = static_cast<int64_t>(w.first_keys.size());
  LONGTAKE_CHECK(F % chunks == 0 && w.times.size(0) == B && w.times.size(1) == chunks, "expected times of {} windows of {} chunks in {} frames",
                 B, chunks, F);
  const int64_t chunk = F / chunks * gh * gw;  // tokens
  const at::Tensor condition =
      model.condition()(w.times.flatten(), w.step_sizes.defined() ? w.step_sizes.flatten() : w.step_sizes, w.null_text.flatten());
  const at::Tensor rotations = model.rotations(0, F, gh, gw).repeat({B, 1});
  const Texts texts = join_texts(model, captions, lengths);
  const at::Tensor text_of_chunk = w.text.flatten();
  const at::Tensor mask = texts.mask.index_select(0, text_of_chunk).view({B * chunks, 1, 1, texts.length});

  // [sequences * length, heads, width] -> [sequences, heads, length, width], key heads repeated for the queries that share them.
  const auto heads_first = [&](const at::Tensor& x, int64_t sequences) {
    const at::Tensor y = x.view({sequences, -1, x.size(1), x.size(2)}).transpose(1, 2);
    return y.size(1) == c.heads ? y : y.repeat_interleave(c.heads / y.size(1), 1);
  };
  const auto packed = [&](const at::Tensor& x) { return x.transpose(1, 2).reshape({-1, c.heads, c.head_width}); };

  const magi::SelfAttention self = [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    const at::Tensor bq = heads_first(q, B), bk = heads_first(k, B), bv = heads_first(v, B);
    std::vector<at::Tensor> out;
    for (int64_t i = 0; i < chunks; ++i) {
      const int64_t first = w.first_keys[i] * chunk, rows = (i + 1) * chunk - first;
      out.push_back(at::scaled_dot_product_attention(bq.narrow(2, i * chunk, chunk), bk.narrow(2, first, rows), bv.narrow(2, first, rows)));
    }
    return packed(at::cat(out, 2));
  };
  // Frames of all windows behind one another are what the model takes for one long clip; chunks stay neighbours.
  at::Tensor x = model.patch_embed(w.latents.transpose(0, 1).flatten(1, 2));
  const std::vector<int64_t> rows(static_cast<size_t>(B * chunks), chunk);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const auto [text_k, text_v] = model.text_kv(layer, texts.rows);
    const auto of_chunk = [&](const at::Tensor& y) {
      return heads_first(y.reshape({-1, texts.length, c.kv_heads, c.head_width}).index_select(0, text_of_chunk).flatten(0, 1), B * chunks);
    };
    const at::Tensor tk = of_chunk(text_k), tv = of_chunk(text_v);
    const magi::CrossAttention cross = [&](const at::Tensor& q) {
      return packed(at::scaled_dot_product_attention(heads_first(q, B * chunks), tk, tv, mask));
    };
    x = model.block(layer, x, condition, rows, rotations, self, cross);
  }
  return model.head(x, gh, gw).unflatten(1, {B, F}).transpose(0, 1);
}

}  // namespace longtake::train
