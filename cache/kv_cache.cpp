#include "cache/kv_cache.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <c10/core/ScalarType.h>

#include "base/error.h"

namespace longtake {

void KvLayer::write(int64_t start, int64_t frames, int64_t plane, const TokenSet& set, const at::Tensor& keys,
                    const at::Tensor& values) {
  LONGTAKE_CHECK(start >= 0 && start + frames * plane <= k.size(0), "expected rows [{}, {}) within {}", start,
                 start + frames * plane, k.size(0));
  LONGTAKE_CHECK(keys.size(0) == set.count(frames, plane) && values.size(0) == keys.size(0), "expected {} rows, found {}",
                 set.count(frames, plane), keys.size(0));
  if (set.is_none()) return;
  if (set.is_all()) {
    k.narrow(0, start, keys.size(0)).copy_(keys);
    v.narrow(0, start, values.size(0)).copy_(values);
    return;
  }
  const at::Tensor rows = set.indices(frames, plane, k.device()) + start;
  k.index_copy_(0, rows, keys.to(k.scalar_type()));
  v.index_copy_(0, rows, values.to(v.scalar_type()));
}

int64_t KvShape::bytes(at::ScalarType dtype) const {
  return 2 * layers * branches * tokens * kv_heads * head_width * static_cast<int64_t>(c10::elementSize(dtype));
}

void KvCache::save(State& state) const {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const std::string name = fmt::format("kv/{}/{}/", i / shape_.branches, i % shape_.branches);
    state.put(name + "k", layers_[i].k);
    state.put(name + "v", layers_[i].v);
  }
}

void KvCache::load(const State& state) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const std::string name = fmt::format("kv/{}/{}/", i / shape_.branches, i % shape_.branches);
    KvLayer& layer = layers_[i];
    layer.k.copy_(state.get(name + "k", layer.k.sizes(), layer.k.scalar_type()));
    layer.v.copy_(state.get(name + "v", layer.v.sizes(), layer.v.scalar_type()));
  }
}

KvCache::KvCache(const KvShape& shape, at::ScalarType dtype, const at::Device& device) : shape_(shape) {
  const auto options = at::TensorOptions().dtype(dtype).device(device);
  const std::vector<int64_t> sizes{shape.tokens, shape.kv_heads, shape.head_width};
  for (int64_t i = 0; i < shape.layers * shape.branches; ++i)
    layers_.push_back(KvLayer{at::zeros(sizes, options), at::zeros(sizes, options)});
}

}  // namespace longtake
