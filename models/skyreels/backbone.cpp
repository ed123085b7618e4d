#include "models/skyreels/backbone.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include "attention/attend.h"
#include "attention/rope.h"
#include "base/op_scope.h"
#include "base/upload.h"
#include "models/skyreels/row_layout.h"

namespace longtake::skyreels {

TextKv prepare_text(const Transformer& transformer, const at::Tensor& context) {
  TextKv out;
  out.length = context.size(0);
  const at::Tensor text = transformer.text_embed(context.to(transformer.device()));
  for (int64_t i = 0; i < transformer.config().layers; ++i) {
    const Transformer::InUse in_use(transformer, i);
    out.layers.push_back(transformer.text_kv(i, text));
  }
  return out;
}

SkyReelsBackbone::SkyReelsBackbone(const Transformer& transformer, std::vector<const TextKv*> texts,
                                   WindowGeometry geometry, int fps_index, std::vector<const TextKv*> prompts,
                                   RowAttention attention)
    : transformer_(transformer), texts_{std::move(texts), std::move(prompts)}, geometry_(std::move(geometry)),
      fps_index_(fps_index), attention_(transformer.merged() ? attention : RowAttention{}) {
  const int64_t gh = geometry_.latent_height / 2, gw = geometry_.latent_width / 2;
  geometry_.plane = gh * gw;
  rotations_ = rope_3d(geometry_.frames(), gh, gw, transformer.config().head_width(), transformer.device());
}

KvShape SkyReelsBackbone::kv_shape() const {
  const auto& c = transformer_.config();
  KvShape shape{c.layers, static_cast<int64_t>(texts_.branches.size()), geometry_.tokens(), c.heads, c.head_width()};
  for (int64_t i = 0; attention_.fp8 && i < c.layers; ++i) {
    const Transformer::Block& block = transformer_.layer(i);
    shape.fp8.push_back(attention_.fp8_everywhere || (block.self_qkv.in_fp8() && block.self.o.in_fp8()));
  }
  return shape;
}

at::Tensor SkyReelsBackbone::embed(const at::Tensor& latents) const {
  return transformer_.patch_embed(latents.to(transformer_.device()));
}

TimeEmbedding SkyReelsBackbone::time_of(std::span<const double> timesteps) const {
  const DistinctTimesteps distinct(timesteps);
  const at::Device device = transformer_.device();
  const TimeEmbedding time = transformer_.time_embed(
      upload(at::tensor(distinct.values, at::TensorOptions().dtype(at::kDouble)), device), fps_index_);
  const at::Tensor index = upload(at::tensor(distinct.index, at::TensorOptions().dtype(at::kLong)), device);
  return {time.e.index_select(0, index), time.E.index_select(0, index)};
}

std::vector<at::Tensor> SkyReelsBackbone::forward(std::span<const WorkItem> items, std::span<const at::Tensor> inputs,
                                                  KvCache& kv) const {
  if (!transformer_.merged()) return forward_plain(items, inputs, kv);
  return FusedRow(transformer_, texts_, geometry_, rotations_, fps_index_, attention_.plans).forward(items, inputs, kv);
}

std::vector<at::Tensor> SkyReelsBackbone::forward_plain(std::span<const WorkItem> items, std::span<const at::Tensor> inputs,
                                                        KvCache& kv) const {
  const OpScope scope("transformer");
  const RowLayout layout(items, inputs, geometry_);
  layout.settle_branches(kv);
  const std::vector<int64_t>& rows_of_item = layout.rows_of_item;
  std::vector<int64_t> tokens_per_frame;
  std::vector<double> timesteps;
  std::vector<at::Tensor> packed, rotations;
  for (size_t i = 0; i < items.size(); ++i) {
    const WorkItem& item = items[i];
    const int64_t frames = geometry_.chunks[item.chunk].frames, plane = geometry_.plane;
    const at::Tensor positions = rotations_.narrow(0, geometry_.position(item.chunk), frames * plane);
    if (item.tokens.is_all()) {
      packed.push_back(inputs[i]);
      rotations.push_back(positions);
    } else {
      const at::Tensor index = item.tokens.indices(frames, plane, inputs[i].device());
      packed.push_back(inputs[i].index_select(0, index));
      rotations.push_back(positions.index_select(0, index));
    }
    for (int64_t n : item.tokens.count_by_frame(frames, plane)) tokens_per_frame.push_back(n);
    timesteps.insert(timesteps.end(), item.timesteps.begin(), item.timesteps.end());
  }

  at::Tensor z = at::cat(packed);
  const at::Tensor rotation = at::cat(rotations);
  const FrameModulation time(time_of(timesteps).E, tokens_per_frame);
  for (int64_t layer = 0; layer < transformer_.config().layers; ++layer) {
    const SelfAttention self = [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
      int64_t at = 0;
      for (size_t i = 0; i < items.size(); at += rows_of_item[i++]) {
        if (!items[i].writes_kv) continue;
        kv.layer(layer, items[i].branch)
            .write(geometry_.start(items[i].chunk), geometry_.chunks[items[i].chunk].frames, geometry_.plane, items[i].tokens,
                   k.narrow(0, at, rows_of_item[i]), v.narrow(0, at, rows_of_item[i]));
      }
      std::vector<at::Tensor> out;
      for (const RowLayout::Run& run : layout.self) {
        const KvLayer& store = kv.layer(layer, run.branch);
        const TokenRange keys = store.rows({run.keys.begin, run.keys.end});
        out.push_back(attend(q.narrow(0, run.begin, run.rows), store.k, store.v, {keys.begin, keys.end}, store.bias));
      }
      at = 0;
      for (size_t i = 0; kv.on_queries && i < items.size(); at += rows_of_item[i++])
        if (i + 1 == items.size() || items[i + 1].branch != items[i].branch)
          kv.on_queries(layer, items[i].branch, q.narrow(0, at, rows_of_item[i]));
      return out.size() == 1 ? out[0] : at::cat(out);
    };
    const CrossAttention cross = [&](const at::Tensor& q) {
      std::vector<at::Tensor> out;
      for (const RowLayout::Run& run : layout.texts) {
        const auto& [k, v] = texts_.of(run).layers.at(layer);
        out.push_back(attend(q.narrow(0, run.begin, run.rows), k, v));
      }
      return out.size() == 1 ? out[0] : at::cat(out);
    };
    const Transformer::InUse in_use(transformer_, layer);
    z = transformer_.block(layer, z, time, rotation, self, cross);
  }
  return z.split_with_sizes(rows_of_item);
}

at::Tensor SkyReelsBackbone::head(const at::Tensor& hidden, std::span<const double> timesteps) const {
  return transformer_.head(hidden, time_of(timesteps).e, geometry_.latent_height / 2, geometry_.latent_width / 2);
}

at::Tensor SkyReelsBackbone::step_embedding(double timestep) const {
  const double t[] = {timestep};
  return time_of(t).E.flatten().cpu();
}

double SkyReelsBackbone::flops(int64_t tokens, int64_t keys) const {
  return transformer_flops(transformer_.config(), tokens, keys, texts_.branches.at(0)->length, false);
}

double transformer_flops(const TransformerConfig& c, int64_t tokens, int64_t keys, int64_t text_length, bool text_kv) {
  const double n = static_cast<double>(tokens), D = static_cast<double>(c.dim), F = static_cast<double>(c.ffn_dim);
  const double linear = 12 * n * D * D + 4 * n * D * F;  // q k v o, cross q o, two of the FFN
  const double attention = 4 * n * D * (static_cast<double>(keys) + static_cast<double>(text_length));
  const double text = text_kv ? 4 * static_cast<double>(text_length) * D * D : 0;
  return static_cast<double>(c.layers) * (linear + attention + text);
}

}  // namespace longtake::skyreels
