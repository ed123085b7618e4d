#include "cache/kv_cache.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>
#include <c10/core/ScalarType.h>

#include <limits>

#include "base/error.h"

namespace longtake {
namespace {

// The first `rows` rows of `room` where there are as many, else new ones.
at::Tensor rows_in(const at::Tensor& room, int64_t rows, const at::Tensor& like) {
  if (room.defined() && rows <= room.size(0)) return room.narrow(0, 0, rows);
  std::vector<int64_t> sizes = like.sizes().vec();
  sizes[0] = rows;
  return at::empty(sizes, like.options());
}

// `part` of `old`, or a copy where writing to `target` might overwrite it.
at::Tensor safe_to_move(const at::Tensor& part, const at::Tensor& target) { return part.is_alias_of(target) ? part.clone() : part; }

}  // namespace

void KvLayer::settle_v_scale(const at::Tensor& values) {
  LONGTAKE_CHECK(in_fp8() && !v_scale_known && values.numel() > 0, "expected values for a layer in fp8 whose scale is not settled");
  constexpr double kE4m3Max = 448, kSmallest = 1e-20;
  const at::Tensor largest = at::linalg_vector_norm(values, std::numeric_limits<double>::infinity(), {}, false, at::kFloat);
  v_scale.copy_((largest * (kValueRoom / kE4m3Max)).clamp_min(kSmallest).view({1}));
  v_scale_known = true;
}

void KvLayer::write(int64_t start, int64_t frames, int64_t plane, const TokenSet& set, const at::Tensor& keys,
                    const at::Tensor& values) {
  LONGTAKE_CHECK(!in_fp8(), "expected a layer that is not in fp8");
  LONGTAKE_CHECK(start >= first && start + frames * plane <= end(), "expected rows [{}, {}) within [{}, {})", start,
                 start + frames * plane, first, end());
  LONGTAKE_CHECK(keys.size(0) == set.count(frames, plane) && values.size(0) == keys.size(0), "expected {} rows, found {}",
                 set.count(frames, plane), keys.size(0));
  if (set.is_none()) return;
  if (set.is_all()) {
    k.narrow(0, start - first, keys.size(0)).copy_(keys);
    v.narrow(0, start - first, values.size(0)).copy_(values);
    return;
  }
  const at::Tensor rows = set.indices(frames, plane, k.device()) + (start - first);
  k.index_copy_(0, rows, keys.to(k.scalar_type()));
  v.index_copy_(0, rows, values.to(v.scalar_type()));
}

TokenRange KvLayer::rows(TokenRange tokens) const {
  return {std::max(tokens.begin, first) - first, std::min(tokens.end, end()) - first};
}

void KvLayer::reserve(int64_t rows) {
  for (const auto& [x, room] : {std::pair(&k, &k_room), std::pair(&v, &v_room)}) {
    if (rows < x->size(0)) continue;
    const at::Tensor old = *x;
    *room = rows_in({}, rows, old);
    *x = room->narrow(0, 0, old.size(0)).copy_(old);
  }
}

void KvLayer::hold(TokenRange tokens) {
  if (tokens == TokenRange{first, end()}) return;
  const int64_t from = std::clamp(tokens.begin, first, end()), to = std::clamp(tokens.end, from, end());
  const int64_t count = tokens.end - tokens.begin, place = from - tokens.begin, kept = to - from;
  const auto moved = [&](const at::Tensor& old, const at::Tensor& room) {
    const at::Tensor out = rows_in(room, count, old);
    if (kept == 0) return out.zero_();
    if (place != from - first || !old.is_alias_of(out)) {
      const at::Tensor part = safe_to_move(old.narrow(0, from - first, kept), out);
      out.narrow(0, place, kept).copy_(part);
    }
    out.narrow(0, 0, place).zero_();
    out.narrow(0, place + kept, count - place - kept).zero_();
    return out;
  };
  k = moved(k, k_room);
  v = moved(v, v_room);
  if (bias.defined()) bias = moved(bias, {});
  first = tokens.begin;
}

void KvLayer::replace_before(int64_t boundary, const at::Tensor& keys, const at::Tensor& values, const at::Tensor& key_bias) {
  const int64_t count = keys.size(0), kept = end() - boundary;
  LONGTAKE_CHECK(!in_fp8(), "expected a layer that is not in fp8");
  LONGTAKE_CHECK(boundary >= first && kept >= 0 && count <= boundary && values.size(0) == count,
                 "expected at most {} rows before token {} of [{}, {}), found {}", boundary, boundary, first, end(), count);
  const at::Tensor rest = bias.defined() ? bias.narrow(0, boundary - first, kept)
                                         : at::zeros({kept}, at::TensorOptions().dtype(at::kFloat).device(k.device()));
  bias = key_bias.defined() ? at::cat({key_bias.to(at::kFloat), rest}) : at::Tensor();
  const auto joined = [&](const at::Tensor& fresh, const at::Tensor& old, const at::Tensor& room) {
    const at::Tensor out = rows_in(room, count + kept, old), tail = safe_to_move(old.narrow(0, boundary - first, kept), out);
    out.narrow(0, count, kept).copy_(tail);
    out.narrow(0, 0, count).copy_(fresh);
    return out;
  };
  k = joined(safe_to_move(keys, k), k, k_room);
  v = joined(safe_to_move(values, v), v, v_room);
  first = boundary - count;
}

int64_t KvLayer::bytes() const { return static_cast<int64_t>(k.nbytes() + v.nbytes() + (bias.defined() ? bias.nbytes() : 0)); }

int64_t KvShape::bytes(at::ScalarType dtype) const {
  const int64_t narrow = std::count(fp8.begin(), fp8.end(), true);
  return 2 * branches * tokens * kv_heads * head_width * ((layers - narrow) * static_cast<int64_t>(c10::elementSize(dtype)) + narrow);
}

void KvCache::save(State& state) const {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const std::string name = fmt::format("kv/{}/{}/", i / shape_.branches, i % shape_.branches);
    state.put(name + "k", layers_[i].k);
    state.put(name + "v", layers_[i].v);
    state.put(name + "v_scale", layers_[i].v_scale);
    if (!in_parts_) continue;
    state.put_integers(name + "held", {layers_[i].first, layers_[i].end()});
    state.put(name + "bias", layers_[i].bias);
  }
  state.put_integers("kv/branches_agree", {branches_agree_ ? 1 : 0});
}

void KvCache::load(const State& state) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const std::string name = fmt::format("kv/{}/{}/", i / shape_.branches, i % shape_.branches);
    KvLayer& layer = layers_[i];
    if (in_parts_) load_part(state, name, layer);
    layer.k.copy_(state.get(name + "k", layer.k.sizes(), layer.k.scalar_type()));
    layer.v.copy_(state.get(name + "v", layer.v.sizes(), layer.v.scalar_type()));
    if (!layer.in_fp8()) continue;
    const at::Tensor scale = state.get(name + "v_scale", {1}, at::kFloat);
    layer.v_scale.copy_(scale);
    layer.v_scale_known = scale.item<float>() > 0;
  }
  // Not what the values say: the run that goes on is to do what the one before it would have done.
  const int64_t agree = state.integers("kv/branches_agree", 1)[0];
  if (agree != 0 && agree != 1) state.refuse(fmt::format("'kv/branches_agree' should be 0 or 1, found {}", agree));
  branches_agree_ = agree == 1;
}

// Makes room for the rows that the layer held, and takes their bias.
void KvCache::load_part(const State& state, const std::string& name, KvLayer& layer) const {
  const std::vector<int64_t> held = state.integers(name + "held", 2);
  if (held[0] < 0 || held[0] > held[1] || held[1] > shape_.tokens)
    state.refuse(fmt::format("'{}held' should be a range of {} tokens, found [{}, {})", name, shape_.tokens, held[0], held[1]));
  layer.bias = at::Tensor();
  layer.hold({held[0], held[1]});
  if (state.contains(name + "bias"))
    layer.bias = state.get(name + "bias", {held[1] - held[0]}, at::kFloat).to(layer.k.device(), at::kFloat, false, /*copy=*/true);
}

KvCache::KvCache(const KvShape& shape, at::ScalarType dtype, const at::Device& device, std::optional<TokenRange> held)
    : shape_(shape), in_parts_(held.has_value()) {
  const TokenRange tokens = held.value_or(TokenRange{0, shape.tokens});
  LONGTAKE_CHECK(shape.fp8.empty() || static_cast<int64_t>(shape.fp8.size()) == shape.layers, "expected a choice for each of {} layers, found {}",
                 shape.layers, shape.fp8.size());
  // The branches of a layer lie in one buffer, so that one attention call can serve them (attend_together); a layer that later
  // holds other tokens leaves it.
  const std::vector<int64_t> sizes{shape.branches, tokens.end - tokens.begin, shape.kv_heads, shape.head_width};
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    const bool fp8 = shape.in_fp8(layer);
    const auto options = at::TensorOptions().dtype(fp8 ? at::kFloat8_e4m3fn : dtype).device(device);
    const at::Tensor k = at::zeros(sizes, options), v = at::zeros(sizes, options);
    for (int64_t b = 0; b < shape.branches; ++b) {
      layers_.push_back(KvLayer{k.select(0, b), v.select(0, b), {}, tokens.begin});
      if (fp8) layers_.back().v_scale = at::zeros({1}, options.dtype(at::kFloat));
    }
  }
}

void KvCache::reserve(int64_t rows) {
  for (KvLayer& layer : layers_) layer.reserve(rows);
}

void KvCache::grow(int64_t end) {
  for (KvLayer& layer : layers_)
    if (layer.end() < end) layer.hold({layer.first, end});
}

void KvCache::hold(TokenRange tokens) {
  for (KvLayer& layer : layers_) layer.hold(tokens);
}

int64_t KvCache::bytes() const {
  int64_t sum = 0;
  for (const KvLayer& layer : layers_) sum += layer.bytes();
  return sum;
}

double KvCache::mean_first(int branch) const {
  double sum = 0;
  for (int64_t i = 0; i < shape_.layers; ++i) sum += static_cast<double>(layer(i, branch).first);
  return sum / static_cast<double>(shape_.layers);
}

}  // namespace longtake
