// How many bytes the SkyReels transformer takes, in closed form from its sizes: what memory plans add up.
//
// Counted are the buffers that the code holds at the same time at its worst moment: FusedRow's (CUDA, merged projections) and
// Transformer::block's (elsewhere), whichever a run goes through. Whoever changes those changes this.
#pragma once

#include <cstdint>

#include "models/skyreels/transformer.h"

namespace longtake::skyreels {

// How a run computes.
struct ComputeForm {
  int64_t value_bytes = 4;     // of weights and activations: 4 for float32, 2 for bfloat16
  bool fused = false;          // FusedRow
  bool fp8 = false;            // products in e4m3 in all layers but the first and the last (Transformer::to_fp8)
  bool fp8_attention = false;  // and keys and values of these layers
  bool gives_queries = false;  // somebody asks for queries (KvCache::on_queries): FusedRow cannot put results over them
};

// Tokens of one forward pass.
struct RowSize {
  int64_t rows = 0;           // of all items together
  int64_t branch_rows = 0;    // of the items of one branch
  int64_t embedded = 0;       // tokens of the chunks that are embedded, once for both branches
  int64_t chunk_tokens = 0;   // of the largest chunk
  int64_t window_tokens = 0;
  int64_t branches = 1;
};

// Of a transformer with so many parameters on its device. One block's share of it (the parts that can be offloaded), too.
double weight_bytes(const TransformerConfig& config, const ComputeForm& form, double parameters);
double block_bytes(const TransformerConfig& config, const ComputeForm& form, int64_t layer);

// Everything a row holds besides weights, keys and values, and cached residuals.
double row_bytes(const TransformerConfig& config, const ComputeForm& form, const RowSize& row);

// Keys and values of `tokens` tokens in every layer.
double kv_bytes(const TransformerConfig& config, const ComputeForm& form, int64_t tokens, int64_t branches);

// One cached residual of each of `tokens` tokens (cache/residual.h).
double residual_bytes(const TransformerConfig& config, const ComputeForm& form, int64_t tokens);

// Text keys and values of one prompt (TextKv).
double text_kv_bytes(const TransformerConfig& config, const ComputeForm& form, int64_t text_length);

}  // namespace longtake::skyreels
