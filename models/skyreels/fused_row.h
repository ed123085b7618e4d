// A row of the schedule as one batch of packed tokens, for inference: one matrix product for queries, keys and values,
// norms fused with what stands before and behind them, keys and values written straight into the cache, and one
// attention call for each key range, both branches together where their rows and keys match. Block 0 comes before any text, so where the
// cache knows that the branches agree there (KvCache::branches_agree), one result of attention serves all of them, to the bits that each would get
// alone. A profile's operations count it once; Backbone::flops counts it for each branch, as the model has it.
//
// The same functions as Transformer::block, with the residual stream in float32 from the first layer to the last
// instead of rounded after each. In layers whose keys and values the cache holds in fp8, queries are rounded on the way too, and
// attention's result goes into an output projection in fp8 as it is, with the scale of the branch's values for all of its rows, and into
// another one times that scale. Runs on any device: on CUDA through our kernels, elsewhere through their ATen
// references, which are slower than the plain path. Nothing here waits for the device, except where a token set is a
// list.
#pragma once

#include <span>
#include <vector>

#include "attention/planned_attention.h"
#include "models/backbone.h"
#include "models/skyreels/row_layout.h"
#include "models/skyreels/transformer.h"

namespace longtake::skyreels {

// Text keys and values of every layer for one prompt: computed once, constant over the run.
struct TextKv {
  std::vector<std::pair<at::Tensor, at::Tensor>> layers;
  int64_t length = 0;
};

// Which text the items of a row attend to.
struct Texts {
  std::vector<const TextKv*> branches;
  std::vector<const TextKv*> prompts;  // of branch 0, over time; where there are any, they stand in place of branches[0]

  const TextKv& of(const RowLayout::Run& run) const {
    return run.branch == 0 && !prompts.empty() ? *prompts.at(run.text) : *branches.at(run.branch);
  }
};

// How rows attend.
struct RowAttention {
  PlannedAttention* plans = nullptr;  // null: through attend()
  bool fp8 = false;                   // in fp8 in layers whose products are; needs plans
  bool fp8_everywhere = false;        // where fp8 is on: in all layers; for measurements, no option reaches it
};

class FusedRow {
 public:
  // transformer.merged(); rotations [tokens of the window, head_width/2] complex64. Everything must outlive the object.
  FusedRow(const Transformer& transformer, const Texts& texts, const WindowGeometry& geometry,
           const at::Tensor& rotations, int fps_index, PlannedAttention* attention = nullptr);

  // As Backbone::forward.
  std::vector<at::Tensor> forward(std::span<const WorkItem> items, std::span<const at::Tensor> inputs,
                                  KvCache& kv) const;

 private:
  struct Batch;
  Batch pack(std::span<const WorkItem> items, std::span<const at::Tensor> inputs, const KvCache& kv) const;
  void feed_forward(const Transformer::Block& block, const Batch& batch) const;
  void project_and_store(int64_t layer, const Batch& batch, KvCache& kv) const;
  at::Tensor packed_results(const Batch& batch, at::ScalarType dtype) const;
  struct Call;
  std::vector<Call> attention_calls(int64_t layer, const Batch& batch, KvCache& kv) const;
  // All calls in one launch, [rows, heads, head_width], where our kernel takes them; else undefined.
  at::Tensor attend_joined(const Batch& batch, std::span<const Call> calls, bool fp8) const;
  void self_attend(int64_t layer, const Batch& batch, KvCache& kv) const;
  void cross_attend(int64_t layer, const Batch& batch) const;

  const Transformer& transformer_;
  const Texts& texts_;
  const WindowGeometry& geometry_;
  const at::Tensor& rotations_;
  int fps_index_;
  PlannedAttention* attention_;
  bool rounds_ = false;  // there are products in fp8 whose input is rounded as it is normalised
};

}  // namespace longtake::skyreels
