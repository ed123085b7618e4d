// The text encoders of the T5 family: UMT5 (UMT5-XXL for Wan 2.1 and SkyReels-V2) and T5 v1.1 (XXL for MAGI-1), token
// ids to the context of a diffusion model. They differ in the relative-position biases: UMT5 has a table in every layer,
// T5 v1.1 one in the first, which all layers share.
//
// Sizes come from the tensors. Computation is in the weights' dtype, with norms and softmax in float32; scores are not
// scaled. Weights are immutable and calls differentiable. Names are UMT5's original ones, also for T5 v1.1, whose
// checkpoints come in the Transformers layout (names.h). Source: skyreels_v2.md sections 6.1 and 6.2, magi1.md section 5.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace longtake {

class WeightSource;

enum class PositionBias {
  per_layer,  // UMT5
  shared,     // T5 v1.1
};

struct Umt5Sizes {
  int64_t vocabulary;  // rows of token_embedding.weight
  int64_t dim;
  int64_t heads;
  int64_t head_dim;  // heads * head_dim need not be dim
  int64_t ffn;
  int64_t layers;
  int64_t buckets = 32;  // of relative positions
  PositionBias position = PositionBias::per_layer;
};

// Sizes from a checkpoint with original names; Error (bad_file) naming the tensor where it is no such encoder. With shared
// biases a second layer's table is an Error too: the checkpoint is UMT5's.
Umt5Sizes read_umt5_sizes(const WeightSource& source, PositionBias position = PositionBias::per_layer);

// Every weight of such an encoder: original checkpoint name and shape.
std::vector<std::pair<std::string, std::vector<int64_t>>> list_umt5_weights(const Umt5Sizes& sizes);

// The bias table's row for a key `offset` positions after the query (negative: before). Positions from 128 on share a
// row.
int64_t umt5_position_bucket(int64_t offset, int64_t buckets);

class Umt5Encoder {
 public:
  explicit Umt5Encoder(WeightSource& source, PositionBias position = PositionBias::per_layer);
  // Fresh weights for training, whose sizes only the caller knows.
  Umt5Encoder(WeightSource& source, const Umt5Sizes& sizes);

  // ids [B, L] int64, mask [B, L] (non-zero: a real token; any integer, bool or floating dtype) -> [B, L, dim] in the
  // weights' dtype and on their device, exactly 0 where the mask is 0. Columns behind the last real token of the batch
  // cost nothing. Error (usage) for other shapes or ids outside the vocabulary.
  at::Tensor encode(const at::Tensor& ids, const at::Tensor& mask) const;

  const Umt5Sizes& sizes() const { return sizes_; }

 private:
  struct Layer {
    at::Tensor norm1, q, k, v, o, position;  // position [buckets, heads], or undefined for the layer before's
    at::Tensor norm2, gate, fc1, fc2;
  };

  // x [B, L, dim] normed, bias [B or 1, heads, L, L] float32.
  at::Tensor attend(const Layer& layer, const at::Tensor& x, const at::Tensor& bias) const;

  Umt5Sizes sizes_;
  at::Tensor embedding_, norm_;
  std::vector<Layer> layers_;
};

}  // namespace longtake
