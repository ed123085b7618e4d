// MAGI-1 behind the Backbone interface: token subsets, shared and missing stores, grouped heads, the interleave of both
// attentions.
#include "models/magi/backbone.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "attention/attend.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/models/magi_tiny.h"
#include "tests/refused.h"

using namespace longtake;

namespace {

constexpr int64_t kPlane = 3 * 2, kTokens = 2 * kPlane;  // of a frame, of a chunk of 2 frames

struct Tiny {
  std::unique_ptr<magi::Transformer> transformer;
  magi::TextKv caption, none, empty;

  explicit Tiny(at::ScalarType dtype = at::kFloat, bool distilled = false)
      : transformer(test::tiny_magi(test::tiny_magi_config(), distilled, dtype)),
        caption(magi::prepare_text(*transformer, at::randn({7, 12}))),
        none(magi::prepare_text(*transformer, transformer->null_caption().narrow(0, 0, 5))),
        empty(magi::prepare_text(*transformer, at::empty({0, 12}))) {}

  // Branches: 0 caption, 1 no caption, on one store; 2 no caption without a store.
  magi::MagiBackbone backbone() const {
    const std::vector<const magi::TextKv*> text(3, &caption), no_text(3, &none);
    return {*transformer, {{text, false, 0}, {no_text, true, 0}, {no_text, true, -1}}, none, geometry()};
  }
  static WindowGeometry geometry() {
    return {.chunks = {{0, 2}, {2, 2}, {4, 2}}, .latent_height = 6, .latent_width = 4};
  }
  KvCache cache(const magi::MagiBackbone& backbone) const {
    return KvCache(backbone.kv_shape(), transformer->dtype(), transformer->device());
  }
};

WorkItem item(int chunk, int branch, double t, KeyRange chunks, bool writes = true) {
  return {.chunk = chunk,
          .branch = branch,
          .timesteps = {t, t},
          .keys = {chunks.begin * kTokens, chunks.end * kTokens},
          .writes_kv = writes};
}

double largest(const at::Tensor& x) { return x.abs().max().item<double>(); }

}  // namespace

TEST_CASE("MAGI-1: a subset of all tokens equals the full pass bit for bit, K/V included") {
  for (const auto dtype : test_dtypes()) {
    const Tiny tiny(dtype);
    const auto backbone = tiny.backbone();
    const std::vector<at::Tensor> inputs(2, backbone.embed(at::randn({4, 2, 6, 4})));
    const auto index = at::TensorOptions().dtype(at::kLong);
    std::vector<std::vector<at::Tensor>> outputs;
    std::vector<KvCache> caches;
    for (const TokenSet& set :
         {TokenSet::all(), TokenSet::list(at::arange(kTokens, index)), TokenSet::columns(at::arange(kPlane, index))}) {
      caches.push_back(tiny.cache(backbone));
      std::vector<WorkItem> items{item(0, 0, 0.5, {0, 1}), item(1, 0, 0.1, {0, 2})};
      for (WorkItem& i : items) i.tokens = set;
      outputs.push_back(backbone.forward(items, inputs, caches.back()));
    }
    for (size_t i = 1; i < outputs.size(); ++i) {
      for (int chunk = 0; chunk < 2; ++chunk) CHECK(at::equal(outputs[i][chunk], outputs[0][chunk]));
      for (int64_t layer = 0; layer < 2; ++layer) {
        CHECK(at::equal(caches[i].layer(layer, 0).k, caches[0].layer(layer, 0).k));
        CHECK(at::equal(caches[i].layer(layer, 0).v, caches[0].layer(layer, 0).v));
      }
    }
  }
}

TEST_CASE("MAGI-1: a row of several chunks and branches equals one call for each") {
  const Tiny tiny;
  const auto backbone = tiny.backbone();
  const at::Tensor a = backbone.embed(at::randn({4, 2, 6, 4})), b = backbone.embed(at::randn({4, 2, 6, 4}));
  const std::vector<WorkItem> items{item(0, 0, 0.9, {0, 1}), item(1, 0, 0.2, {0, 2}), item(2, 0, 0.1, {1, 3})};
  const std::vector<at::Tensor> inputs{a, b, a};
  KvCache together = tiny.cache(backbone), apart = tiny.cache(backbone);
  const auto row = backbone.forward(items, inputs, together);
  for (size_t i = 0; i < items.size(); ++i) {
    const auto one = backbone.forward(std::span(items).subspan(i, 1), std::span(inputs).subspan(i, 1), apart);
    CHECK(largest(one[0] - row[i]) < 1e-4);
  }
}

TEST_CASE("MAGI-1: what a branch does not store serves its own items alone") {
  const Tiny tiny;
  const auto backbone = tiny.backbone();
  const std::vector<at::Tensor> x{backbone.embed(at::randn({4, 2, 6, 4})), backbone.embed(at::randn({4, 2, 6, 4})),
                                  backbone.embed(at::randn({4, 2, 6, 4}))};
  // The captioned branch reads history that the other one wrote, and its own chunks.
  KvCache kv = tiny.cache(backbone);
  backbone.forward(std::vector{item(0, 1, 0.99, {0, 1})}, std::span(x).first(1), kv);
  const std::vector<WorkItem> both{item(1, 0, 0.5, {0, 2}, false), item(2, 0, 0.1, {0, 3}, false),
                                   item(1, 1, 0.5, {0, 2}),        item(2, 1, 0.1, {0, 3}),
                                   item(1, 2, 0.5, {1, 2}, false), item(2, 2, 0.1, {2, 3}, false)};
  const std::vector<at::Tensor> inputs{x[1], x[2], x[1], x[2], x[1], x[2]};
  KvCache text = kv, null_text = kv, alone = tiny.cache(backbone);
  // Copies of a cache share their rows, so each branch gets its own.
  for (KvCache* cache : {&text, &null_text})
    for (int64_t layer = 0; layer < 2; ++layer) {
      cache->layer(layer, 0).k = kv.layer(layer, 0).k.clone();
      cache->layer(layer, 0).v = kv.layer(layer, 0).v.clone();
    }
  std::vector<WorkItem> stored(both.begin(), both.begin() + 2);
  for (WorkItem& i : stored) i.writes_kv = true;
  const auto want_text = backbone.forward(stored, std::span(inputs).first(2), text);
  const auto want_null = backbone.forward(std::span(both).subspan(2, 2), std::span(inputs).first(2), null_text);
  const auto out = backbone.forward(both, inputs, kv);
  for (int i = 0; i < 2; ++i) {
    CHECK(largest(out[i] - want_text[i]) < 1e-4);
    CHECK(largest(out[2 + i] - want_null[i]) < 1e-4);
    const std::vector<WorkItem> one{item(1 + i, 1, i == 0 ? 0.5 : 0.1, {1 + i, 2 + i})};
    CHECK(largest(out[4 + i] - backbone.forward(one, std::span(x).subspan(1 + i, 1), alone)[0]) < 1e-4);
  }
  for (int64_t layer = 0; layer < 2; ++layer) CHECK(largest(kv.layer(layer, 0).k - null_text.layer(layer, 0).k) < 1e-4);
  CHECK(largest(out[0] - out[2]) > 1e-3);
}

TEST_CASE("MAGI-1: branches that keep their own keys compute some of a chunk's tokens, attending to the rest as it was") {
  const Tiny tiny;
  const auto plain = tiny.backbone();
  const std::vector<const magi::TextKv*> text(3, &tiny.caption), no_text(3, &tiny.none);
  const magi::MagiBackbone keeping(*tiny.transformer, {{text, false, 0, 1}, {no_text, true, 0}, {no_text, true, -1, 2}}, tiny.none,
                                   Tiny::geometry());
  CHECK(plain.kv_shape().branches == 1);
  CHECK(keeping.kv_shape().branches == 3);
  std::vector<at::Tensor> x;
  for (int i = 0; i < 3; ++i) x.push_back(keeping.embed(at::randn({4, 2, 6, 4})));
  std::vector<WorkItem> row{item(1, 0, 0.5, {0, 2}, false), item(2, 0, 0.1, {0, 3}, false), item(1, 1, 0.5, {0, 2}),
                            item(2, 1, 0.1, {0, 3}),        item(1, 2, 0.5, {1, 2}, false), item(2, 2, 0.1, {2, 3}, false)};
  const std::vector<at::Tensor> inputs{x[1], x[2], x[1], x[2], x[1], x[2]};
  const auto full = [&](const magi::MagiBackbone& backbone, KvCache& kv) {
    backbone.forward(std::vector{item(0, 1, 0.99, {0, 1})}, std::span(x).first(1), kv);
    return backbone.forward(row, inputs, kv);
  };
  KvCache kv = tiny.cache(keeping), without = tiny.cache(plain);
  const auto whole = full(keeping, kv), wanted = full(plain, without);
  for (size_t i = 0; i < row.size(); ++i) CHECK(at::equal(whole[i], wanted[i]));
  // Nothing has changed since, so what is computed again comes out as it did, each branch's with its own keys of the rest.
  const TokenSet some = TokenSet::columns(at::arange(1, kPlane, 3, at::kLong));
  const at::Tensor index = some.indices(2, kPlane, at::kCPU);
  for (WorkItem& i : row) i.tokens = some;
  const auto again = keeping.forward(row, inputs, kv);
  for (size_t i = 0; i < row.size(); ++i) CHECK(largest(again[i] - whole[i].index_select(0, index)) < 1e-5);
  // What the others kept decides: the text branch with the keys of the one without a text is another thing.
  for (int64_t layer = 0; layer < 2; ++layer) {
    CHECK(largest(kv.layer(layer, 1).k.narrow(0, 0, kTokens)) == 0);  // a chunk that the branch never ran
    kv.layer(layer, 1).k.copy_(kv.layer(layer, 0).k), kv.layer(layer, 1).v.copy_(kv.layer(layer, 0).v);
  }
  CHECK(largest(keeping.forward(row, inputs, kv)[0] - again[0]) > 1e-4);
}

TEST_CASE("MAGI-1: a finished chunk has no text") {
  const Tiny tiny;
  const auto backbone = tiny.backbone();
  const std::vector<at::Tensor> x{backbone.embed(at::randn({4, 2, 6, 4}))};
  const std::vector<const magi::TextKv*> no_text(3, &tiny.none);
  const magi::MagiBackbone uncaptioned(*tiny.transformer, {{no_text, false, 0}}, tiny.none, Tiny::geometry());
  KvCache a = tiny.cache(backbone), b = tiny.cache(uncaptioned);
  WorkItem finished = item(0, 0, 0.9999, {0, 1});
  const auto with_text = backbone.forward(std::vector{finished}, x, a)[0];
  finished.finished = true;
  const auto without = backbone.forward(std::vector{finished}, x, a)[0];
  finished.finished = false;
  CHECK(at::equal(without, uncaptioned.forward(std::vector{finished}, x, b)[0]));
  CHECK(largest(without - with_text) > 1e-4);
}

TEST_CASE("MAGI-1: a layer joins grouped self attention and caption attention in eight runs each") {
  const Tiny tiny;
  const auto& t = *tiny.transformer;
  const auto weights = test::tiny_magi_weights(t.config());
  const at::Tensor x = at::randn({kTokens, 64}), condition = at::randn({1, 16});
  const at::Tensor seen = at::randn({kTokens, 4, 16}), read = at::randn({kTokens, 4, 16});
  const auto layer = [&](const at::Tensor& a, const at::Tensor& b) {
    return t.block(
        0, x, condition, {kTokens}, t.rotations(0, 2, 3, 2), [&](auto&, auto&, auto&) { return a; },
        [&](auto&) { return b; });
  };
  // Columns of the joining weight: run g of self attention at 2g, of the caption's at 2g + 1. Zeroing the caption's
  // columns must be the same as a caption attention of zeros.
  auto cut = weights;
  at::Tensor& joint = cut["videodit_blocks.layers.0.self_attention.linear_proj.weight"];
  joint = joint.clone();
  for (int64_t g = 0; g < 8; ++g) joint.narrow(1, (2 * g + 1) * 8, 8).zero_();
  test::MapSource source(cut);
  const magi::Transformer without(source, t.config(), false);
  const at::Tensor want = without.block(
      0, x, condition, {kTokens}, t.rotations(0, 2, 3, 2), [&](auto&, auto&, auto&) { return seen; },
      [&](auto&) { return read; });
  CHECK(largest(layer(seen, at::zeros_like(read)) - want) < 1e-5);
  CHECK(largest(layer(seen, read) - want) > 1e-3);

  // Query head h reads K/V head h / 2.
  const at::Tensor k = at::randn({kTokens, 2, 16}), v = at::randn({kTokens, 2, 16});
  const at::Tensor grouped = attend(seen, k, v);
  const at::Tensor repeated = attend(seen, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1));
  CHECK(largest(grouped - repeated) < 1e-5);
}

TEST_CASE("MAGI-1: a caption without rows adds nothing, and text keys are split by head") {
  const Tiny tiny;
  const std::vector<const magi::TextKv*> text(3, &tiny.empty);
  const magi::MagiBackbone backbone(*tiny.transformer, {{text, false, 0}}, tiny.none, Tiny::geometry());
  KvCache kv = tiny.cache(backbone);
  const auto out =
      backbone.forward(std::vector{item(0, 0, 0.5, {0, 1})}, std::vector{backbone.embed(at::randn({4, 2, 6, 4}))}, kv);
  CHECK(out[0].isfinite().all().item<bool>());

  const at::Tensor y = at::randn({5, 64});
  const auto weights = test::tiny_magi_weights(tiny.transformer->config());
  const at::Tensor all = at::linear(y, weights.at("videodit_blocks.layers.1.self_attention.linear_kv_xattn.weight"));
  const auto kv1 = tiny.transformer->text_kv(1, y);
  for (int64_t head = 0; head < 2; ++head)
    CHECK(largest(kv1.second.select(1, head) - all.narrow(1, head * 32 + 16, 16)) < 1e-5);
}

TEST_CASE("MAGI-1: items that cannot be served are refused") {
  const Tiny tiny, distilled(at::kFloat, true);
  const auto backbone = tiny.backbone(), with_steps = distilled.backbone();
  const std::vector<at::Tensor> x{backbone.embed(at::randn({4, 2, 6, 4}))};
  KvCache kv = tiny.cache(backbone);
  const auto run = [&](const magi::MagiBackbone& b, WorkItem i) { b.forward(std::vector{i}, x, kv); };
  CHECK_THROWS_AS(run(backbone, item(0, 2, 0.5, {0, 1})), Error);         // no store to write to
  CHECK_THROWS_AS(run(backbone, item(1, 2, 0.5, {0, 2}, false)), Error);  // no store to read chunk 0 from
  CHECK_THROWS_AS(run(with_steps, item(0, 0, 0.5, {0, 1})), Error);       // no step size
  WorkItem one = item(0, 0, 0.5, {0, 1});
  one.step_size = 8;
  CHECK_THROWS_AS(run(backbone, one), Error);
  CHECK_NOTHROW(run(with_steps, one));
  WorkItem mixed = item(0, 0, 0.5, {0, 1});
  mixed.timesteps = {0.5, 0.4};
  CHECK_THROWS_AS(run(backbone, mixed), Error);
  WorkItem part = item(0, 0, 0.5, {0, 1}, false);
  part.tokens = TokenSet::columns(at::arange(2, at::TensorOptions().dtype(at::kLong)));
  CHECK_THROWS_AS(run(backbone, part), Error);
  CHECK_THROWS_AS(
      backbone.forward(std::vector{item(0, 0, 0.5, {0, 1}), item(0, 0, 0.5, {0, 1})}, std::vector{x[0], x[0]}, kv),
      Error);
}

TEST_CASE("MAGI-1: queries are handed over for each store's last writer") {
  const Tiny tiny;
  const auto backbone = tiny.backbone();
  KvCache kv = tiny.cache(backbone);
  std::vector<std::pair<int64_t, int>> calls;
  kv.on_queries = [&](int64_t layer, int store, const at::Tensor& queries) {
    CHECK(queries.size(0) == kTokens);
    calls.emplace_back(layer, store);
  };
  const at::Tensor x = backbone.embed(at::randn({4, 2, 6, 4}));
  backbone.forward(std::vector{item(0, 0, 0.5, {0, 1}, false), item(0, 1, 0.5, {0, 1}), item(1, 1, 0.5, {0, 2})},
                   std::vector{x, x, x}, kv);
  CHECK(calls == std::vector<std::pair<int64_t, int>>{{0, 0}, {1, 0}});
}

TEST_CASE("MAGI-1: weights that do not fit the configuration are refused") {
  const auto config = test::tiny_magi_config();
  const auto load = [&](const std::map<std::string, at::Tensor>& weights, const magi::ModelConfig& c) {
    return refused([&] {
      test::MapSource source(weights);
      magi::Transformer(source, c, false);
    });
  };
  const auto weights = test::tiny_magi_weights(config);
  CHECK(load(weights, config) == "");
  auto fewer = config;
  fewer.layers = 1;
  CHECK(load(weights, fewer).find("more than the 1 layers") != std::string::npos);
  auto more = config;
  more.layers = 3;
  CHECK(load(weights, more).find("videodit_blocks.layers.2.") != std::string::npos);
  auto wider = config;
  wider.ffn_dim = 64;
  CHECK(load(weights, wider).find("mlp.linear_fc1.weight") != std::string::npos);
  auto gated = config;
  gated.gated_mlp = true;
  CHECK(load(weights, gated).find("mlp.linear_fc1.weight") != std::string::npos);
  auto incomplete = weights;
  incomplete.erase("rope.bands");
  CHECK(load(incomplete, config).find("rope.bands") != std::string::npos);
}

TEST_CASE("FLOP counts of MAGI-1") {
  magi::ModelConfig c;
  c.layers = 34, c.dim = 3072, c.ffn_dim = 12288, c.heads = 24, c.kv_heads = 8, c.head_width = 128;
  const int64_t chunk = 12150;  // 720 x 720; spec magi1.md section 7
  CHECK(std::abs(magi::transformer_flops(c, chunk, 0, 0) / 1e12 - 98.8) < 0.1);
  CHECK(std::abs((magi::transformer_flops(c, chunk, chunk, 0) - magi::transformer_flops(c, chunk, 0, 0)) / 1e12 -
                 61.7) < 0.1);
  c.layers = 48, c.dim = 6144, c.ffn_dim = 16384, c.heads = 48, c.gated_mlp = true;
  CHECK(std::abs(magi::transformer_flops(c, 1, 0, 0) / 1e9 - 44.69) < 0.01);
}
