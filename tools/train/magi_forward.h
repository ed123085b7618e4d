// The MAGI-1 transformer on a batch of windows, differentiable: what training calls. Equal to MagiBackbone chunk by chunk, which a test
// checks.
#pragma once

#include <vector>

#include "models/magi/transformer.h"

namespace longtake::train {

// Windows of n chunks of one structure, B of them.
struct MagiWindows {
  at::Tensor latents;           // [B, C, n*f, h, w]
  at::Tensor times;             // [B, n] float32, 0 noise ... 1 clean
  at::Tensor step_sizes;        // [B, n] float32; undefined for models that are not distilled
  at::Tensor null_text;         // [B, n] int64, 1: the gates are conditioned on there being no text
  at::Tensor text;              // [B, n] int64: what each chunk reads, 0 the null caption, i + 1 caption i
  std::vector<int> first_keys;  // of each chunk the first that it sees; the last is itself
};

// captions [T, L, caption_dim], of which the first lengths[i] rows count -> velocity [B, C, n*f, h, w] float32.
at::Tensor predict(const magi::Transformer& model, const MagiWindows& windows, const at::Tensor& captions,
                   const std::vector<int64_t>& lengths);

}  // namespace longtake::train
