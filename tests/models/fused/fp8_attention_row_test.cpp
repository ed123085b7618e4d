// Rows whose inner layers attend in fp8: close to bf16 attention, and the same whatever a row is made of.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include "attention/planned_attention.h"
#include "models/skyreels/backbone.h"
#include "models/weights/random_source.h"
#include "tests/attention_kernels.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"

using namespace longtake;

namespace {

constexpr int64_t kPlane = 12, kLayers = 5;

struct Model {
  at::Device device;
  PlannedAttention attention;
  std::unique_ptr<skyreels::Transformer> transformer;
  skyreels::TextKv cond, uncond;
  WindowGeometry geometry;
  std::vector<at::Tensor> latents;

  explicit Model(at::Device d, PlannedAttention::Kernels kernels = PlannedAttention::Kernels::fastest) : device(d), attention(d, kernels) {
    RandomSource source(5, device, at::kBFloat16);
    const skyreels::TransformerConfig config{.dim = 256, .ffn_dim = 512, .layers = kLayers, .heads = 2, .in_channels = 4, .out_channels = 4,
                                             .text_dim = 64, .freq_dim = 64};
    transformer = std::make_unique<skyreels::Transformer>(source, config);
    transformer->merge_projections();
    transformer->to_fp8();
    attention.try_out(at::kBFloat16, 2, 128);
    attention.try_out(at::kFloat8_e4m3fn, 2, 128);
    const auto f32 = at::TensorOptions().dtype(at::kFloat).device(device);
    cond = skyreels::prepare_text(*transformer, at::randn({6, 64}, f32).to(at::kBFloat16));
    uncond = skyreels::prepare_text(*transformer, at::randn({6, 64}, f32).to(at::kBFloat16));
    geometry.chunks = {{0, 3}, {3, 2}, {5, 2}};
    geometry.latent_height = 8;
    geometry.latent_width = 6;
    for (const auto& chunk : geometry.chunks) latents.push_back(at::randn({4, chunk.frames, 8, 6}, f32));
  }

  skyreels::SkyReelsBackbone backbone(bool fp8, bool everywhere = false) {
    return {*transformer, {&cond, &uncond}, geometry, 1, {}, fp8 ? skyreels::RowAttention{&attention, true, everywhere} : skyreels::RowAttention{}};
  }
  KeyRange keys(int chunk) const { return {0, (geometry.chunks[chunk].first + geometry.chunks[chunk].frames) * kPlane}; }

  std::vector<at::Tensor> forward(bool fp8, const std::vector<WorkItem>& items, KvCache& kv, bool everywhere = false) {
    const auto b = backbone(fp8, everywhere);
    std::vector<at::Tensor> inputs;
    for (const WorkItem& item : items) inputs.push_back(b.embed(latents[item.chunk]));
    return b.forward(items, inputs, kv);
  }

  KvCache cache(bool fp8) { return KvCache(backbone(fp8).kv_shape(), at::kBFloat16, device); }
};

}  // namespace

TEST_CASE("rows with attention in fp8 stay close to rows with attention in bf16") {
  for (const auto& device : test_devices())
    for (const auto kernels : test::attention_kernels(device)) {
      Model m(device, kernels);
      CHECK(m.backbone(true).kv_shape().fp8 == std::vector<bool>{false, true, true, true, false});
      CHECK(m.backbone(false).kv_shape().fp8.empty());
      const TokenSet all = TokenSet::all();
      const TokenSet columns = TokenSet::columns(at::tensor(std::vector<int64_t>{0, 2, 5, 11}, at::TensorOptions().dtype(at::kLong).device(device)));
      KvCache narrow = m.cache(true), wide = m.cache(false);
      for (const std::vector<WorkItem>& items : std::vector<std::vector<WorkItem>>{
               {{0, 0, all, {20, 20, 20}, m.keys(0)}, {1, 0, all, {500, 500}, m.keys(1)}, {2, 0, all, {900, 900}, m.keys(2)},
                {0, 1, all, {20, 20, 20}, m.keys(0)}, {1, 1, all, {500, 500}, m.keys(1)}, {2, 1, all, {900, 900}, m.keys(2)}},
               {{1, 0, columns, {400, 400}, m.keys(1)}, {2, 0, all, {800, 800}, {3 * kPlane, 7 * kPlane}}, {2, 1, columns, {800, 800}, m.keys(2)}}}) {
        const auto got = m.forward(true, items, narrow), want = m.forward(false, items, wide);
        for (size_t i = 0; i < items.size(); ++i) {
          const double error = test::relative_error(got[i], want[i]);
          INFO("item " << i << " of " << items.size() << " on " << device.str() << ": " << error);
          CHECK(error > 1e-5);
          CHECK(error < 0.06);
        }
      }
      for (int64_t branch = 0; branch < 2; ++branch) {
        const KvLayer &a = narrow.layer(1, branch), &b = wide.layer(1, branch);
        REQUIRE(a.in_fp8());
        CHECK(a.v_scale_known);
        CHECK(test::relative_error(a.v.to(at::kFloat) * a.v_scale, b.v) < 0.04);
        CHECK(test::relative_error(a.k.to(at::kFloat), b.k) < 0.04);
      }
    }
}

TEST_CASE("attention in fp8 in the first and the last block too, whose products are not") {
  for (const auto& device : test_devices())
    for (const auto kernels : test::attention_kernels(device)) {
      Model m(device, kernels);
      const auto shape = m.backbone(true, true).kv_shape();
      CHECK(shape.fp8 == std::vector<bool>(kLayers, true));
      KvCache narrow(shape, at::kBFloat16, device), wide = m.cache(false);
      const std::vector<WorkItem> items{{0, 0, TokenSet::all(), {700, 700, 700}, m.keys(0)}, {0, 1, TokenSet::all(), {700, 700, 700}, m.keys(0)}};
      const auto got = m.forward(true, items, narrow, true), want = m.forward(false, items, wide);
      for (size_t i = 0; i < items.size(); ++i) {
        const double error = test::relative_error(got[i], want[i]);
        INFO("item " << i << " on " << device.str() << ": " << error);
        CHECK(error < 0.06);
      }
      for (int64_t branch = 0; branch < 2; ++branch)
        CHECK(test::relative_error(narrow.layer(0, branch).v.to(at::kFloat) * narrow.layer(0, branch).v_scale, wide.layer(0, branch).v) < 0.04);
    }
}

// A branch's scale is settled by its own first values. The two branches of a prompt may well share their largest value, so here they
// stand at different noise levels and each scale is held against what the branch stored, whose values fill at most 1 / kValueRoom of it.
TEST_CASE("each branch's values in fp8 have a scale of their own") {
  constexpr float kE4m3Max = 448;
  for (const auto& device : test_devices())
    for (const auto kernels : test::attention_kernels(device)) {
      Model m(device, kernels);
      KvCache together = m.cache(true);
      const WorkItem cond{0, 0, TokenSet::all(), {20, 20, 20}, m.keys(0)}, uncond{0, 1, TokenSet::all(), {900, 900, 900}, m.keys(0)};
      m.forward(true, {cond, uncond}, together);
      for (int64_t branch = 0; branch < 2; ++branch) {
        KvCache alone = m.cache(true);
        m.forward(true, {branch == 0 ? cond : uncond}, alone);
        const KvLayer &a = together.layer(1, branch), &b = alone.layer(1, branch);
        CHECK(test::relative_error(a.v_scale, b.v_scale) < 0.01);  // bf16 products may round otherwise in rows of another length
        const float largest = a.v.to(at::kFloat).abs().max().item<float>();
        CHECK(largest <= kE4m3Max / static_cast<float>(KvLayer::kValueRoom) * 1.04f);
        CHECK(largest > kE4m3Max / static_cast<float>(KvLayer::kValueRoom) * 0.9f);
      }
    }
}

TEST_CASE("with attention in fp8 a subset of all tokens equals the full pass bit for bit") {
  for (const auto& device : test_devices())
    for (const auto kernels : test::attention_kernels(device)) {
      Model m(device, kernels);
      std::vector<std::vector<at::Tensor>> outputs;
      for (const TokenSet& set : {TokenSet::all(), TokenSet::columns(at::arange(kPlane, at::TensorOptions().dtype(at::kLong).device(device)))}) {
        KvCache kv = m.cache(true);
        outputs.push_back(m.forward(true, {{0, 0, set, {700, 700, 700}, m.keys(0)}, {0, 1, set, {700, 700, 700}, m.keys(0)}}, kv));
      }
      for (size_t b = 0; b < 2; ++b) CHECK(at::equal(outputs[1][b], outputs[0][b]));
    }
}

TEST_CASE("a row goes on from saved keys and values in fp8 to the same bits") {
  for (const auto& device : test_devices())
    for (const auto kernels : test::attention_kernels(device)) {
      Model m(device, kernels);
      const auto first = [&](KvCache& kv) { m.forward(true, {{0, 0, TokenSet::all(), {700, 700, 700}, m.keys(0)}}, kv); };
      const auto second = [&](KvCache& kv) { return m.forward(true, {{1, 0, TokenSet::all(), {700, 700}, m.keys(1)}}, kv).front(); };
      KvCache kv = m.cache(true), back = m.cache(true);
      first(kv);
      State state;
      kv.save(state);
      back.load(state);
      CHECK(at::equal(second(back), second(kv)));
    }
}
