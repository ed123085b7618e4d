// The complete hidden state of a chunk from its computed rows and its cached residuals, and the new residuals, in one pass.
//
// Rounded where plain tensor operations round (no fused multiply-add), so that hidden states and residuals are theirs bit for bit.
#pragma once

#include "base/cuda/kernel.h"

namespace longtake::cuda {

struct MergeRows {
  int64_t rows = 0, width = 0;  // of the chunk; width: a multiple of kRowStep
  Float type = Float::bf16;
  const void* embedded = nullptr;  // [rows, width]
  const void* fresh = nullptr;     // computed rows
  const int32_t* place = nullptr;  // [rows]: which of `fresh` a row is, or -1; null: none is computed
  void* residual = nullptr;        // [rows, width]; computed rows are replaced
  void* before = nullptr;          // [rows, width] the residuals before those, or null; follows
  float *level = nullptr, *before_level = nullptr;  // [rows] noise levels of both, or null; follow
  float now = 0, clip = 0;
  bool predicts = false;         // what is not computed follows the line through both residuals; else the last one is reused
  void* hidden = nullptr;        // [rows, width] out
  float* distance = nullptr;     // [rows] out, or null: of a computed row from what it would have been, else 0
};

int merge_rows(const MergeRows& p, Stream stream);

}  // namespace longtake::cuda
