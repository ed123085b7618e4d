// SkyReels-V2 behind the Backbone interface: one prompt pair, one window geometry. Rows run through FusedRow where the
// transformer's projections are merged, else layer by layer through Transformer::block.
#pragma once

#include <map>

#include "models/backbone.h"
#include "models/skyreels/fused_row.h"
#include "models/skyreels/transformer.h"

namespace longtake::skyreels {

TextKv prepare_text(const Transformer& transformer, const at::Tensor& context);

class SkyReelsBackbone final : public Backbone {
 public:
  // texts[b] belongs to branch b; where there are `prompts`, chunks take theirs of these instead of texts[0] (WindowGeometry::Chunk::text).
  // `attention` is for transformers with merged projections. The transformer, the texts and attention's plans must outlive the object.
  SkyReelsBackbone(const Transformer& transformer, std::vector<const TextKv*> texts, WindowGeometry geometry, int fps_index,
                   std::vector<const TextKv*> prompts = {}, RowAttention attention = {});

  const WindowGeometry& geometry() const override { return geometry_; }
  KvShape kv_shape() const override;
  at::Tensor embed(const at::Tensor& latents) const override;
  std::vector<at::Tensor> forward(std::span<const WorkItem> items, std::span<const at::Tensor> inputs,
                                  KvCache& kv) const override;
  at::Tensor head(const at::Tensor& hidden, std::span<const double> timesteps) const override;
  at::Tensor step_embedding(double timestep) const override;
  double flops(int64_t tokens, int64_t keys) const override;

 private:
  TimeEmbedding time_of(std::span<const double> timesteps) const;
  std::vector<at::Tensor> forward_plain(std::span<const WorkItem> items, std::span<const at::Tensor> inputs, KvCache& kv) const;

  const Transformer& transformer_;
  Texts texts_;
  WindowGeometry geometry_;
  int fps_index_;
  RowAttention attention_;
  at::Tensor rotations_;  // [tokens, head_width/2] complex64
};

// FLOPs (2 * multiply-adds) of one item of `tokens` queries on `keys` keys, text keys and values included when
// `text_kv` is set (the reference recomputes them for each item; longtake once a prompt).
double transformer_flops(const TransformerConfig& config, int64_t tokens, int64_t keys, int64_t text_length, bool text_kv);

}  // namespace longtake::skyreels
