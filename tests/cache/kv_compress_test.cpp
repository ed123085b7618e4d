#include "cache/kv_compress.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>

#include "tests/catch.h"
#include "tests/devices.h"

using namespace longtake;

namespace {

constexpr int64_t kPlane = 4, kHeads = 2, kWidth = 8;
const KvChunks kChunks{{0, 12, 24, 36}, kPlane};  // three chunks of three latent frames

KvCache filled(const at::Device& device, at::ScalarType dtype = at::kFloat) {
  KvCache kv({2, 2, 36, kHeads, kWidth}, dtype, device);
  for (int64_t layer = 0; layer < 2; ++layer)
    for (int b = 0; b < 2; ++b) {
      kv.layer(layer, b).k.normal_();
      kv.layer(layer, b).v.normal_();
    }
  return kv;
}

// q [n, heads, width] over every row that the layer holds, in float64.
at::Tensor attention(const at::Tensor& q, const KvLayer& layer) {
  const auto heads_first = [](const at::Tensor& x) { return x.to(at::kDouble).transpose(0, 1); };
  at::Tensor logits = at::matmul(heads_first(q), heads_first(layer.k).transpose(1, 2)) / std::sqrt(static_cast<double>(kWidth));
  if (layer.bias.defined()) logits = logits + layer.bias.to(at::kDouble);
  return at::matmul(at::softmax(logits, -1), heads_first(layer.v)).transpose(0, 1);
}

double far(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

}  // namespace

TEST_CASE("a layer holds a range of the window's tokens") {
  for (const auto& device : test_devices()) {
    KvCache kv({1, 1, 36, kHeads, kWidth}, at::kFloat, device, TokenRange{0, 0});
    CHECK(kv.bytes() == 0);
    KvLayer& layer = kv.layer(0, 0);
    kv.grow(12);
    const at::Tensor a = at::randn({12, kHeads, kWidth}, layer.k.options()), b = at::randn({12, kHeads, kWidth}, layer.k.options());
    layer.write(0, 3, kPlane, TokenSet::all(), a, a);
    CHECK_THROWS(layer.write(12, 3, kPlane, TokenSet::all(), b, b));
    kv.grow(24);
    layer.write(12, 3, kPlane, TokenSet::all(), b, b);
    CHECK(at::equal(layer.k, at::cat({a, b})));
    CHECK((layer.rows({0, 24}) == TokenRange{0, 24}));

    // Tokens 0 ... 11 become two rows.
    const at::Tensor two = at::randn({2, kHeads, kWidth}, layer.k.options());
    layer.replace_before(12, two, two * 2, at::ones({2}, layer.k.options()));
    CHECK(layer.first == 10);
    CHECK((layer.rows({0, 24}) == TokenRange{0, 14}));
    CHECK((layer.rows({12, 24}) == TokenRange{2, 14}));
    CHECK(at::equal(layer.v, at::cat({two * 2, b})));
    CHECK(at::equal(layer.bias, at::cat({at::ones({2}, layer.k.options()), at::zeros({12}, layer.k.options())})));
    layer.write(12, 3, kPlane, TokenSet::all(), a, a);
    CHECK(at::equal(layer.k, at::cat({two, a})));
    kv.grow(36);
    CHECK(layer.end() == 36);
    CHECK(layer.first == 10);
    CHECK(layer.bias.size(0) == 26);
    CHECK(kv.bytes() == 26 * (2 * kHeads * kWidth + 1) * 4);
    CHECK_THROWS(layer.replace_before(12, at::zeros({13, kHeads, kWidth}), at::zeros({13, kHeads, kWidth})));
  }
}

TEST_CASE("stream keeps the last chunks as they are, and all of them where there are no more") {
  for (const int keep : {0, 1, 2, 5}) {
    KvCache kv = filled(at::kCPU);
    const at::Tensor before = kv.layer(1, 1).k.clone();
    const auto stream = StreamKvSettings{keep}.make(kChunks);
    CHECK_FALSE(stream->wants_queries());
    for (const int finished : {0, 1, 2}) {
      stream->finish(kv, finished);
      const int64_t first = 12 * std::max(0, finished - keep);
      CHECK(kv.layer(1, 1).first == first);
      CHECK(at::equal(kv.layer(1, 1).k, before.narrow(0, first, 36 - first)));
    }
  }
}

TEST_CASE("r1kv shrinks finished chunks to its budget, leaves the others alone, and does nothing within the budget") {
  for (const auto& device : test_devices())
    for (const auto dtype : test_dtypes()) {
      KvCache kv = filled(device, dtype);
      const at::Tensor k = kv.layer(1, 0).k.clone(), v = kv.layer(1, 0).v.clone();
      const at::Tensor q = at::randn({12, 2 * kHeads, kWidth}, k.options());
      const auto whole = R1KvSettings{.budget = 2}.make(kChunks);
      whole->finish(kv, 2);
      CHECK_FALSE(whole->wants_queries());

      const auto half = R1KvSettings{.budget = 0.5}.make(kChunks);
      half->finish(kv, 0);
      CHECK_FALSE(half->wants_queries());
      half->finish(kv, 2);
      REQUIRE(half->wants_queries());
      for (int64_t layer = 0; layer < 2; ++layer)
        for (int b = 0; b < 2; ++b) half->queries(kv, layer, b, q);
      CHECK_FALSE(half->wants_queries());
      const KvLayer& layer = kv.layer(1, 0);
      CHECK(layer.first == 24 - 6);
      CHECK_FALSE(layer.bias.defined());
      CHECK(at::equal(layer.k.narrow(0, 6, 12), k.narrow(0, 24, 12)));
      CHECK(at::equal(layer.v.narrow(0, 6, 12), v.narrow(0, 24, 12)));
      // Each head keeps keys that were there, with their own values, in their old order.
      for (int64_t h = 0; h < kHeads; ++h) {
        int64_t from = 0;
        for (int64_t i = 0; i < 6; ++i) {
          while (from < 24 && !(at::equal(k[from][h], layer.k[i][h]) && at::equal(v[from][h], layer.v[i][h]))) ++from;
          CHECK(from++ < 24);
        }
      }
    }
}

TEST_CASE("r1kv keeps the important and drops the redundant, by head or for all heads") {
  // Two finished chunks whose keys all point one way, but for tokens 5 (head 0) and 14 (head 1), which the queries look for.
  for (const bool per_head : {true, false}) {
    KvCache kv({1, 1, 36, kHeads, kWidth}, at::kFloat, at::kCPU);
    KvLayer& layer = kv.layer(0, 0);
    layer.k.select(2, 0).fill_(1);
    for (int64_t h = 0; h < kHeads; ++h) {
      layer.k[h == 0 ? 5 : 14][h].zero_();
      layer.k[h == 0 ? 5 : 14][h][1] = 3;
    }
    layer.v.copy_(at::arange(36).to(at::kFloat).view({36, 1, 1}).expand({36, kHeads, kWidth}));
    at::Tensor q = at::zeros({8, kHeads, kWidth});
    q.select(2, 1).fill_(2);
    const auto r1kv = R1KvSettings{.budget = per_head ? 1.0 / 12 : 2.0 / 12, .pool = 1, .per_head = per_head}.make(kChunks);
    r1kv->finish(kv, 2);
    r1kv->queries(kv, 0, 0, q);
    if (per_head) {
      CHECK(layer.v[0][0][0].item<float>() == 5);
      CHECK(layer.v[0][1][0].item<float>() == 14);
    } else {
      for (int64_t h = 0; h < kHeads; ++h) {
        CHECK(layer.v[0][h][0].item<float>() == 5);
        CHECK(layer.v[1][h][0].item<float>() == 14);
      }
    }
  }
}

TEST_CASE("merging equal keys changes nothing, whatever the values") {
  for (const auto& device : test_devices()) {
    KvCache kv = filled(device);
    // In layer 1 the keys of a position are the same in all frames; in layer 0 they differ.
    const at::Tensor frame = kv.layer(1, 0).k.narrow(0, 0, kPlane).clone();
    kv.layer(1, 0).k.copy_(frame.repeat({9, 1, 1}));
    const at::Tensor q = at::randn({7, kHeads, kWidth}, frame.options());
    const at::Tensor want = attention(q, kv.layer(1, 0)), other = attention(q, kv.layer(0, 0));
    const auto merge = MergeKvSettings{0}.make(kChunks);
    for (const int finished : {0, 1, 2}) merge->finish(kv, finished);  // chunk by chunk: counts carry over
    CHECK(kv.layer(1, 0).k.size(0) == kPlane + 12);
    CHECK(kv.layer(1, 0).first == 24 - kPlane);
    CHECK(far(attention(q, kv.layer(1, 0)), want) < 1e-5);
    CHECK(kv.layer(0, 0).k.size(0) == 36);
    CHECK(far(attention(q, kv.layer(0, 0)), other) < 1e-6);
  }
}

TEST_CASE("merging joins near keys: mean key, mean value, log of the count") {
  KvCache kv({1, 1, 36, 1, 2}, at::kFloat, at::kCPU);
  KvLayer& layer = kv.layer(0, 0);
  // Position 0 turns by a third of a degree from frame to frame; 1 by 90 degrees; 2 and 3 stand still.
  for (int64_t f = 0; f < 9; ++f)
    for (int64_t p = 0; p < kPlane; ++p) {
      const double angle = p == 0 ? 0.006 * static_cast<double>(f) : p == 1 ? 1.5707963 * static_cast<double>(f) : 0;
      layer.k[f * kPlane + p][0][0] = std::cos(angle);
      layer.k[f * kPlane + p][0][1] = std::sin(angle);
      layer.v[f * kPlane + p][0][0] = static_cast<double>(f);
    }
  const auto merge = MergeKvSettings{0.01}.make(kChunks);
  merge->finish(kv, 2);
  // Frame 0 gives four rows; position 1 five more.
  REQUIRE(layer.first == 24 - 9);
  CHECK(std::abs(layer.bias[0].item<double>() - std::log(6.0)) < 1e-6);
  CHECK(layer.bias[1].item<double>() == 0);
  CHECK(std::abs(layer.v[0][0][0].item<double>() - 2.5) < 1e-6);
  double mean = 0;
  for (int f = 0; f < 6; ++f) mean += std::sin(0.006 * f) / 6;
  CHECK(std::abs(layer.k[0][0][1].item<double>() - mean) < 1e-6);
  CHECK(layer.v[4][0][0].item<double>() == 1);
  CHECK(layer.v[8][0][0].item<double>() == 5);
}
