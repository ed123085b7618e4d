#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/log.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/ones.h>

#include "cache/kv_compress.h"

namespace longtake {
namespace {

constexpr double kRounding = 1e-6;

class MergeKv final : public KvCompressor {
 public:
  MergeKv(const MergeKvSettings& settings, KvChunks layout) : settings_(settings), layout_(std::move(layout)) {}

  void finish(KvCache& kv, int finished) override {
    if (finished == finished_) return;
    const int64_t begin = layout_.bounds.at(static_cast<size_t>(finished_)), end = layout_.bounds.at(static_cast<size_t>(finished));
    for (int64_t layer = 0; layer < kv.shape().layers; ++layer)
      for (int b = 0; b < kv.shape().branches; ++b) merge(kv.layer(layer, b), runs_[{layer, b}], begin, end);
    finished_ = finished;
  }

  void save(State& state) const override {
    for (const auto& [key, runs] : runs_) {
      state.put(entry(key, "count"), runs.count);
      state.put(entry(key, "last"), runs.last);
    }
  }

  void load(const State& state, KvCache& kv, int finished) override {
    finished_ = finished;
    for (int64_t layer = 0; finished > 0 && layer < kv.shape().layers; ++layer)
      for (int b = 0; b < kv.shape().branches; ++b) {
        const KvLayer& store = kv.layer(layer, b);
        const int64_t rows = layout_.bounds.at(static_cast<size_t>(finished)) - store.first;
        const at::Tensor count = state.get(entry({layer, b}, "count"), {rows}, at::kFloat);
        const at::Tensor last = state.get(entry({layer, b}, "last"), {layout_.plane}, at::kLong);
        if (((last < 0) | (last >= rows)).any().item<bool>()) state.refuse(fmt::format("'{}' should name rows below {}", entry({layer, b}, "last"), rows));
        // Copies: they change in place.
        runs_[{layer, b}] = {count.to(store.k.device(), at::kFloat, false, true), last.to(store.k.device(), at::kLong, false, true)};
      }
  }

 private:
  static std::string entry(std::pair<int64_t, int> key, const char* what) { return fmt::format("kv/{}/{}/{}", key.first, key.second, what); }

  // What became of the finished chunks: rows that stand for one or more keys.
  struct Runs {
    at::Tensor count;  // [rows] float32
    at::Tensor last;   // [plane] int64: the row that the latest latent frame's key of a position belongs to
  };

  void merge(KvLayer& store, Runs& runs, int64_t begin, int64_t end) const {
    const int64_t plane = layout_.plane, old = begin - store.first, frames = (end - begin) / plane;
    at::Tensor k = store.k.narrow(0, 0, old).to(at::kFloat), v = store.v.narrow(0, 0, old).to(at::kFloat);
    const at::TensorOptions floats = k.options(), longs = floats.dtype(at::kLong);
    for (int64_t f = 0; f < frames; ++f) {
      const at::Tensor key = store.k.narrow(0, old + f * plane, plane).to(at::kFloat), value = store.v.narrow(0, old + f * plane, plane).to(at::kFloat);
      at::Tensor fresh = at::arange(plane, longs);  // positions that start a row of their own
      if (runs.last.defined()) {
        const at::Tensor near = cosine_distance(k.index_select(0, runs.last), key).amax(-1) <= settings_.distance + kRounding;
        const at::Tensor joined = at::nonzero(near).flatten(), rows = runs.last.index_select(0, joined);
        const at::Tensor n = runs.count.index_select(0, rows).view({-1, 1, 1});
        const auto mean = [&](const at::Tensor& sum, const at::Tensor& added) {
          return (sum.index_select(0, rows) * n + added.index_select(0, joined)) / (n + 1);
        };
        k.index_copy_(0, rows, mean(k, key));
        v.index_copy_(0, rows, mean(v, value));
        runs.count.index_add_(0, rows, at::ones({rows.size(0)}, floats));
        fresh = at::nonzero(near.logical_not()).flatten();
      } else {
        runs.last = at::arange(plane, longs);
        runs.count = at::ones({0}, floats);
      }
      runs.last.index_copy_(0, fresh, at::arange(k.size(0), k.size(0) + fresh.size(0), longs));
      k = at::cat({k, key.index_select(0, fresh)});
      v = at::cat({v, value.index_select(0, fresh)});
      runs.count = at::cat({runs.count, at::ones({fresh.size(0)}, floats)});
    }
    store.replace_before(end, k, v, at::log(runs.count));
  }

  // [n, heads] of keys [n, heads, width].
  static at::Tensor cosine_distance(const at::Tensor& a, const at::Tensor& b) {
    const at::Tensor norms = at::linalg_vector_norm(a, 2, {-1}) * at::linalg_vector_norm(b, 2, {-1});
    return 1 - (a * b).sum(-1) / norms.clamp_min(1e-12);
  }

  MergeKvSettings settings_;
  KvChunks layout_;
  int finished_ = 0;
  std::map<std::pair<int64_t, int>, Runs> runs_;  // (layer, branch)
};

}  // namespace

std::vector<SettingKey> MergeKvSettings::keys() {
  return {number_key("d", distance, 0, 2, "cosine distance within which neighbouring keys of one position become one")};
}

std::unique_ptr<KvCompressor> MergeKvSettings::make(const KvChunks& layout) const { return std::make_unique<MergeKv>(*this, layout); }

}  // namespace longtake
