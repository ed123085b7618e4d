// Keys and values of one window: per layer and branch, all tokens in place. Chunks write their rows and read a range.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "cache/state.h"
#include "cache/token_set.h"

namespace longtake {

struct KvLayer {
  at::Tensor k, v;  // [tokens, kv_heads, head_width]; k after normalisation and rotation

  // Writes the rows of one chunk that starts at token `start` and has `frames` x `plane` tokens;
  // `keys` and `values` [count, kv_heads, head_width] belong to the tokens of `set` in ascending order.
  void write(int64_t start, int64_t frames, int64_t plane, const TokenSet& set, const at::Tensor& keys,
             const at::Tensor& values);
};

struct KvShape {
  int64_t layers = 0, branches = 0, tokens = 0, kv_heads = 0, head_width = 0;
  int64_t bytes(at::ScalarType dtype) const;
};

class KvCache {
 public:
  // Zero-initialised: a row that was never written contributes a zero key rather than garbage.
  KvCache(const KvShape& shape, at::ScalarType dtype, const at::Device& device);

  KvLayer& layer(int64_t layer, int64_t branch) { return layers_.at(layer * shape_.branches + branch); }
  const KvShape& shape() const { return shape_; }

  // All rows of all layers and branches, "kv/LAYER/BRANCH/k" and ".../v"; loading keeps this cache's dtype and device.
  void save(State& state) const;
  void load(const State& state);

 private:
  KvShape shape_;
  std::vector<KvLayer> layers_;
};

}  // namespace longtake
