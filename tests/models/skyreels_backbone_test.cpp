// Properties of partial rows: a subset of all tokens is the full pass bit for bit, an empty one touches nothing.
#include "models/skyreels/backbone.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/models/tiny_skyreels.h"

using namespace longtake;

namespace {

constexpr int64_t kTokens = 3 * 4 * 3;

}  // namespace

TEST_CASE("a subset of all tokens equals the full pass bit for bit, K/V included") {
  for (const auto& device : test_devices())
    for (const auto dtype : test_dtypes()) {
      const test::TinySkyReels tiny(device, dtype);
      const auto backbone = tiny.backbone();
      const at::Tensor latents = at::randn({4, 3, 8, 6}, at::TensorOptions().dtype(at::kFloat).device(device));
      const std::vector<at::Tensor> inputs(2, backbone.embed(latents));
      const at::Tensor every = at::arange(kTokens, at::TensorOptions().dtype(at::kLong).device(device));
      const at::Tensor columns = at::arange(12, at::TensorOptions().dtype(at::kLong).device(device));
      std::vector<std::vector<at::Tensor>> outputs;
      std::vector<KvCache> caches;
      for (const TokenSet& set : {TokenSet::all(), TokenSet::list(every), TokenSet::columns(columns)}) {
        caches.emplace_back(backbone.kv_shape(), dtype, device);
        const std::vector<WorkItem> items{{0, 0, set, {700, 700, 700}, {0, kTokens}}, {0, 1, set, {700, 700, 700}, {0, kTokens}}};
        outputs.push_back(backbone.forward(items, inputs, caches.back()));
      }
      for (size_t i = 1; i < outputs.size(); ++i) {
        for (int b = 0; b < 2; ++b) CHECK(at::equal(outputs[i][b], outputs[0][b]));
        for (int64_t layer = 0; layer < 2; ++layer)
          for (int64_t b = 0; b < 2; ++b) {
            CHECK(at::equal(caches[i].layer(layer, b).k, caches[0].layer(layer, b).k));
            CHECK(at::equal(caches[i].layer(layer, b).v, caches[0].layer(layer, b).v));
          }
      }
    }
}

TEST_CASE("rows of several chunks and branches equal one call for each") {
  for (const auto& device : test_devices()) {
    const test::TinySkyReels tiny(device, at::kFloat);
    const auto backbone = tiny.backbone();
    const auto f32 = at::TensorOptions().dtype(at::kFloat).device(device);
    const at::Tensor a = backbone.embed(at::randn({4, 3, 8, 6}, f32)), b = backbone.embed(at::randn({4, 3, 8, 6}, f32));
    const at::Tensor columns = at::arange(5, at::TensorOptions().dtype(at::kLong).device(device));
    const at::Tensor tokens = at::arange(3, 20, at::TensorOptions().dtype(at::kLong).device(device));
    // Chunk 1 attends to chunk 0's keys of the same layer, so both orders must agree.
    const std::vector<WorkItem> items{{0, 0, TokenSet::all(), {20, 20, 20}, {0, kTokens}},
                                      {1, 0, TokenSet::columns(columns), {900, 900, 900}, {0, 2 * kTokens}},
                                      {0, 1, TokenSet::all(), {20, 20, 20}, {0, kTokens}},
                                      {1, 1, TokenSet::list(tokens), {900, 950, 999}, {0, 2 * kTokens}}};
    const std::vector<at::Tensor> inputs{a, b, a, b};
    KvCache together(backbone.kv_shape(), at::kFloat, device), apart(backbone.kv_shape(), at::kFloat, device);
    const auto row = backbone.forward(items, inputs, together);
    for (size_t i = 0; i < items.size(); ++i) {
      const auto one = backbone.forward(std::span(items).subspan(i, 1), std::span(inputs).subspan(i, 1), apart);
      CHECK((one[0] - row[i]).abs().max().item<float>() < 1e-5f);
    }
    for (int64_t layer = 0; layer < 2; ++layer)
      CHECK((together.layer(layer, 1).k - apart.layer(layer, 1).k).abs().max().item<float>() < 1e-5f);
  }
}

TEST_CASE("items of one branch attend to their own prompts") {
  const test::TinySkyReels tiny(at::kCPU, at::kFloat);
  if (GENERATE(false, true)) tiny.transformer->merge_projections();  // the row as one batch
  const skyreels::TextKv third = skyreels::prepare_text(*tiny.transformer, at::randn({6, 12}));
  WindowGeometry geometry = tiny.geometry;
  geometry.chunks[1].text = 1;
  const skyreels::SkyReelsBackbone both(*tiny.transformer, {&tiny.cond, &tiny.uncond}, geometry, 1, {&tiny.cond, &third});
  const skyreels::SkyReelsBackbone first(*tiny.transformer, {&tiny.cond, &tiny.uncond}, geometry, 1), second(*tiny.transformer, {&third, &tiny.uncond}, geometry, 1);
  const std::vector<double> t{700, 700, 700};
  // Chunk 1 attends to itself alone, so that its prompt is all that tells the backbones apart.
  const std::vector<WorkItem> items{{0, 0, TokenSet::all(), t, {0, kTokens}}, {1, 0, TokenSet::all(), t, {kTokens, 2 * kTokens}},
                                    {0, 1, TokenSet::all(), t, {0, kTokens}}, {1, 1, TokenSet::all(), t, {kTokens, 2 * kTokens}}};
  const at::Tensor x = both.embed(at::randn({4, 3, 8, 6})), y = both.embed(at::randn({4, 3, 8, 6}));
  const std::vector<at::Tensor> inputs{x, y, x, y};
  std::vector<std::vector<at::Tensor>> out;
  for (const auto* backbone : {&both, &first, &second}) {
    KvCache kv(backbone->kv_shape(), at::kFloat, at::kCPU);
    out.push_back(backbone->forward(items, inputs, kv));
  }
  CHECK((out[0][0] - out[1][0]).abs().max().item<float>() < 1e-5f);
  CHECK((out[0][1] - out[2][1]).abs().max().item<float>() < 1e-5f);
  CHECK((out[0][1] - out[1][1]).abs().max().item<float>() > 1e-3f);
  for (int i : {2, 3}) CHECK((out[0][i] - out[1][i]).abs().max().item<float>() < 1e-5f);
}

TEST_CASE("a chunk that is moved in the order of keys keeps its place in time") {
  const test::TinySkyReels tiny(at::kCPU, at::kFloat);
  if (GENERATE(false, true)) tiny.transformer->merge_projections();  // the row as one batch
  WindowGeometry in_order = tiny.geometry, moved = tiny.geometry;
  in_order.chunks = {{0, 3}, {3, 1}};
  moved.chunks = {{0, 1, 0, 3}, {1, 3, 0, -1}};
  const skyreels::SkyReelsBackbone a(*tiny.transformer, {&tiny.cond}, in_order, 1), b(*tiny.transformer, {&tiny.cond}, moved, 1);
  const at::Tensor video = a.embed(at::randn({4, 3, 8, 6})), picture = a.embed(at::randn({4, 1, 8, 6}));
  const KeyRange all{0, 4 * 12};
  KvCache kv(a.kv_shape(), at::kFloat, at::kCPU), other(b.kv_shape(), at::kFloat, at::kCPU);
  const auto one = a.forward(std::vector<WorkItem>{{0, 0, TokenSet::all(), {700, 700, 700}, all}, {1, 0, TokenSet::all(), {0}, all}},
                             std::vector<at::Tensor>{video, picture}, kv);
  const auto two = b.forward(std::vector<WorkItem>{{0, 0, TokenSet::all(), {0}, all}, {1, 0, TokenSet::all(), {700, 700, 700}, all}},
                             std::vector<at::Tensor>{picture, video}, other);
  CHECK((one[0] - two[1]).abs().max().item<float>() < 1e-5f);
  CHECK((one[1] - two[0]).abs().max().item<float>() < 1e-5f);
}

TEST_CASE("FLOP counts of SkyReels-V2-DF-1.3B") {
  skyreels::TransformerConfig config;
  config.dim = 1536, config.ffn_dim = 8960, config.layers = 30, config.heads = 12;
  const int64_t chunk = 10200;
  const double want[] = {45.8, 65.0, 84.2, 103.3, 122.5};  // TFLOP for chunk g, spec motioncache.md 1.8
  double causal = 0;
  for (int g = 0; g < 5; ++g) {
    const double flops = skyreels::transformer_flops(config, chunk, (g + 1) * chunk, 512, true);
    CHECK(std::abs(flops / 1e12 - want[g]) < 0.1);
    causal += flops * 50 * 2 * (g == 0 ? 1 : 2);  // two windows; chunk 0 of the second is prefix
  }
  causal += 2 * skyreels::transformer_flops(config, chunk, chunk, 512, true);  // the prefix, once a branch
  CHECK(std::abs(causal / 1e15 - 79.7) < 0.1);
  const double dense = skyreels::transformer_flops(config, 51000, 51000, 512, true);
  CHECK(std::abs(dense / 1e12 - 611.9) < 1.0);
  CHECK(std::abs(dense * 270 / 1e15 - 165.2) < 0.3);
}
