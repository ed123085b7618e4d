#include <ATen/TensorOperators.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/max_pool1d.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros.h>

#include <set>

#include "base/error.h"
#include "cache/kv_compress.h"

namespace longtake {
namespace {

constexpr int64_t kTail = 50;                 // queries of KvQueries::tail
constexpr int64_t kLogits = int64_t{1} << 26;  // computed at once

// [kv_heads, keys]: the mean softmax weight of each key under q [n, heads, width], the largest logit of a group of heads counting.
at::Tensor importance(const at::Tensor& q, const at::Tensor& keys, int pool) {
  const int64_t n = q.size(0), H = keys.size(1), group = q.size(1) / H, W = keys.size(2), L = keys.size(0);
  const at::Tensor kt = keys.permute({1, 2, 0});  // [H, W, L]
  const int64_t slice = std::max<int64_t>(1, kLogits / (q.size(1) * L));
  at::Tensor sum = at::zeros({H, L}, keys.options());
  for (int64_t at = 0; at < n; at += slice) {
    const int64_t m = std::min(slice, n - at);
    const at::Tensor part = q.narrow(0, at, m).to(at::kFloat).view({m, H, group, W}).permute({1, 2, 0, 3}).reshape({H, group * m, W});
    const at::Tensor logits = (at::matmul(part, kt) / std::sqrt(static_cast<double>(W))).view({H, group, m, L}).amax(1);
    sum += at::softmax(logits, -1).sum(1);
  }
  return at::max_pool1d(sum / static_cast<double>(n), {pool}, {1}, {pool / 2});
}

// [kv_heads, keys]: softmax over the keys of their mean cosine to the others.
at::Tensor redundancy(const at::Tensor& keys) {
  const at::Tensor unit = keys / at::linalg_vector_norm(keys, 2, {-1}, true).clamp_min(1e-12);  // [L, H, W]
  const at::Tensor others = (unit * unit.sum(0, true)).sum(-1) - 1;                              // [L, H]
  return at::softmax(others.transpose(0, 1) / static_cast<double>(keys.size(0)), -1);
}

class R1Kv final : public KvCompressor {
 public:
  R1Kv(const R1KvSettings& settings, KvChunks layout) : settings_(settings), layout_(std::move(layout)) {
    rows_ = std::max<int64_t>(1, std::llround(settings_.budget * static_cast<double>(layout_.chunk_tokens())));
  }

  void finish(KvCache& kv, int finished) override {
    end_ = layout_.bounds.at(static_cast<size_t>(finished));
    for (int64_t layer = 0; layer < kv.shape().layers; ++layer)
      for (int b = 0; b < kv.shape().branches; ++b)
        if (end_ - kv.layer(layer, b).first > rows_) due_.insert({layer, b});
  }

  bool wants_queries() const override { return !due_.empty(); }

  void queries(KvCache& kv, int64_t layer, int branch, const at::Tensor& q) override {
    if (due_.erase({layer, branch}) == 0) return;
    KvLayer& store = kv.layer(layer, branch);
    const int64_t count = end_ - store.first;
    const at::Tensor k = store.k.narrow(0, 0, count), v = store.v.narrow(0, 0, count), keys = k.to(at::kFloat);
    int64_t last = q.size(0);
    if (settings_.queries == KvQueries::frame) last = std::min(last, layout_.plane);
    if (settings_.queries == KvQueries::tail) last = std::min(last, kTail);
    at::Tensor score = importance(q.narrow(0, q.size(0) - last, last), keys, settings_.pool) * settings_.mix -
                       redundancy(keys) * (1 - settings_.mix);
    if (!settings_.per_head) score = score.mean(0, true).expand_as(score);
    // In the order of the tokens, so that neighbours stay neighbours for the pooling of the next time.
    const at::Tensor kept = std::get<0>(at::sort(std::get<1>(at::topk(score, rows_, 1)), 1)).transpose(0, 1);  // [rows, H]
    const at::Tensor index = kept.unsqueeze(-1).expand({rows_, k.size(1), k.size(2)});
    store.replace_before(end_, at::gather(k, 0, index), at::gather(v, 0, index));
  }

 private:
  R1KvSettings settings_;
  KvChunks layout_;
  int64_t rows_ = 0, end_ = 0;
  std::set<std::pair<int64_t, int>> due_;  // (layer, branch)
};

}  // namespace

std::vector<SettingKey> R1KvSettings::keys() {
  return {number_key("budget", budget, 0.01, 1e6, "chunks' worth of tokens that finished chunks are compressed to"),
          number_key("mix", mix, 0, 1, "weight of a token's importance; the rest weighs its redundancy"),
          {"pool", "an odd whole number between 1 and 99", "neighbours whose largest importance counts",
           [this] { return fmt::format("{}", pool); },
           [this](const std::string& text) {
             int value = 0;
             if (!whole_key("", value, 1, 99, "").set(text) || value % 2 == 0) return false;
             pool = value;
             return true;
           }},
          toggle_key("per_head", per_head, "each head keeps its own tokens"),
          choice_key<KvQueries>("queries", queries, {{"frame", KvQueries::frame}, {"tail", KvQueries::tail}, {"all", KvQueries::all}},
                                "whose attention makes a token important: the latest chunk's last latent frame, its last 50 tokens, or all")};
}

std::unique_ptr<KvCompressor> R1KvSettings::make(const KvChunks& layout) const { return std::make_unique<R1Kv>(*this, layout); }

}  // namespace longtake
