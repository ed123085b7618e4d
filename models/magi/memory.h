// How many bytes the MAGI-1 transformer takes, in closed form from its sizes: what memory plans add up.
//
// Counted are the buffers that the code holds at the same time at its worst moment: Transformer::block's and those that MagiBackbone and the
// denoising loop keep around it. Whoever changes these changes this.
#pragma once

#include <cstdint>

#include "models/magi/config.h"

namespace longtake::magi {

// How a run computes.
struct ComputeForm {
  int64_t value_bytes = 4;  // of weights and activations: 4 for float32, 2 for bfloat16
  bool fp8 = false;         // the quantised layers in e4m3
  bool fused = false;       // on a GPU with our kernels: norms, gates, rotation and SwiGLU in one pass each
};

// Tokens of one row.
struct RowSize {
  int64_t rows = 0;      // of all items together
  int64_t embedded = 0;  // of the chunks, which are embedded once for all branches
  int64_t keys = 0;      // of the largest attention call
  int64_t joined = 0;    // keys of the largest attention call that sees rows of its own beside stored ones
  int64_t video = 0;     // of the whole video, given frames included
};

// Of the transformer without the scales of quantised checkpoints.
double parameters(const ModelConfig& config);
// Of one layer's linear layers that quantised checkpoints have in e4m3.
double quantised_parameters(const ModelConfig& config);

// Of a transformer with so many parameters, `quantised` of them in e4m3 layers; one layer's share of it (what can be offloaded).
double weight_bytes(const ModelConfig& config, const ComputeForm& form, double parameters, double quantised);
double layer_bytes(const ModelConfig& config, const ComputeForm& form, bool quantised);

// Everything a row holds besides weights, keys and values, and what policies keep.
double row_bytes(const ModelConfig& config, const ComputeForm& form, const RowSize& row);

// Keys and values of `tokens` tokens in every layer. MAGI-1-4.5B's chunk of 12,150 tokens in bfloat16: 1.69 GB.
double kv_bytes(const ModelConfig& config, const ComputeForm& form, int64_t tokens);
// Of one text's `rows` rows (TextKv).
double text_kv_bytes(const ModelConfig& config, const ComputeForm& form, int64_t rows);

}  // namespace longtake::magi
