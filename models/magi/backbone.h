// MAGI-1 behind the Backbone interface: the texts of one prompt, all chunks of one video.
//
// Spec: magi1.md 2.8 and 3.6. Every forward of a guided step is a branch of one call:
//   base       0 caption (reads the store of branch 1 and does not write), 1 null caption (writes), 2 null caption,
//   each chunk alone distilled  0 caption (writes), 1 the copy of the nearly clean chunk, which sees only itself
// A branch without a store sees what the call itself computes. Time positions are those of the video in every branch;
// where a chunk sees only itself they do not matter.
#pragma once

#include <vector>

#include "models/backbone.h"
#include "models/magi/transformer.h"

namespace longtake {
class PlannedAttention;
}

namespace longtake::magi {

// Caption keys and values of every layer: computed once, constant over the run.
struct TextKv {
  std::vector<std::pair<at::Tensor, at::Tensor>> layers;
  int64_t length = 0;
};
// caption [L, caption_dim]: the rows that count; none makes cross attention 0.
TextKv prepare_text(const Transformer& transformer, const at::Tensor& caption);

struct Branch {
  std::vector<const TextKv*> texts;  // of each chunk of the video
  bool null_text = false;            // conditions the gates on there being no text
  int store = 0;                     // where its keys are kept, -1 nowhere; branches may share a store
  // Where the keys of items that do not write to `store` are kept for these items alone, so that some of a chunk's tokens can be computed
  // when all were before; -1: nowhere, and such items are whole chunks.
  int own = -1;
};

class MagiBackbone final : public Backbone {
 public:
  // The transformer and the texts must outlive the object. `null_text` is what finished chunks read. Every store from 0
  // to the largest that a branch names exists; no two branches share their own. Attention runs through `attention`, which must outlive the
  // object too; null: through attend().
  MagiBackbone(const Transformer& transformer, std::vector<Branch> branches, const TextKv& null_text,
               WindowGeometry geometry, PlannedAttention* attention = nullptr);

  const WindowGeometry& geometry() const override { return geometry_; }
  // `branches` counts the stores.
  KvShape kv_shape() const override;
  at::Tensor embed(const at::Tensor& latents) const override;
  // A chunk has one timestep. Items that do not write must be whole chunks where their branch has no store of its own,
  // and a chunk stands at most once in a branch. KvCache::on_queries gets the store's number and the queries of the last
  // item that writes to it.
  std::vector<at::Tensor> forward(std::span<const WorkItem> items, std::span<const at::Tensor> inputs,
                                  KvCache& kv) const override;
  at::Tensor head(const at::Tensor& hidden, std::span<const double> timesteps) const override;
  // Of the timestep alone; distilled models add that of the step size, which is constant over a run but for 12-step
  // grids.
  at::Tensor step_embedding(double timestep) const override;
  double flops(int64_t tokens, int64_t keys) const override;

 private:
  struct Packed;
  Packed pack(std::span<const WorkItem> items, std::span<const at::Tensor> inputs) const;
  // `whole`: the queries are those of whole chunks.
  at::Tensor attended(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& bias, bool whole) const;

  const Transformer& transformer_;
  std::vector<Branch> branches_;
  const TextKv& null_text_;
  WindowGeometry geometry_;
  PlannedAttention* attention_;
  at::Tensor rotations_;  // [tokens, 6*bands]
};

// FLOPs (2 * multiply-adds) of one item of `tokens` queries on `keys` keys and `text_length` caption rows.
double transformer_flops(const ModelConfig& config, int64_t tokens, int64_t keys, int64_t text_length);

}  // namespace longtake::magi
