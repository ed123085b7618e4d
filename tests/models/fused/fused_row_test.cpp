// The fused row against the plain path: same results and the same keys and values, whatever the row holds.
#include "models/skyreels/fused_row.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>

#include "tests/attention_kernels.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"
#include "tests/models/tiny_skyreels.h"

using namespace longtake;

namespace {

constexpr int64_t kPlane = 12;  // 4 x 3 tokens a latent frame

// Windows of three chunks of 3, 2 and 2 frames; heads of 24 channels, or of 128 as our kernel and cuDNN serve them. Fused rows attend through
// these where they can.
struct Fixture {
  test::TinySkyReels tiny;
  at::TensorOptions options;
  std::vector<at::Tensor> latents;
  mutable PlannedAttention plans;
  int64_t plane;

  Fixture(at::Device device, at::ScalarType dtype, int64_t dim, int64_t height = 8, int64_t width = 6,
          PlannedAttention::Kernels kernels = PlannedAttention::Kernels::fastest)
      : tiny(device, dtype, dim), options(at::TensorOptions().dtype(at::kFloat).device(device)), plans(device, kernels), plane(height * width / 4) {
    tiny.geometry.chunks = {{0, 3}, {3, 2}, {5, 2}};
    tiny.geometry.latent_height = height;
    tiny.geometry.latent_width = width;
    for (const auto& chunk : tiny.geometry.chunks) latents.push_back(at::randn({4, chunk.frames, height, width}, options));
    plans.try_out(dtype, 2, dim / 2);
  }

  at::Tensor index(std::vector<int64_t> values) const { return at::tensor(values, options.dtype(at::kLong)); }
  KeyRange keys(int chunk) const {
    return {0, (tiny.geometry.chunks[chunk].first + tiny.geometry.chunks[chunk].frames) * plane};
  }
  KvCache cache() const { return KvCache(tiny.backbone().kv_shape(), tiny.dtype, tiny.device); }

  std::vector<at::Tensor> forward(const std::vector<WorkItem>& items, KvCache& kv) const {
    const skyreels::SkyReelsBackbone backbone(*tiny.transformer, {&tiny.cond, &tiny.uncond}, tiny.geometry, 1, {}, {&plans, false});
    std::vector<at::Tensor> inputs;
    for (const WorkItem& item : items) inputs.push_back(backbone.embed(latents[item.chunk]));
    return backbone.forward(items, inputs, kv);
  }
};

// Dims, and what attends to heads that kernels are for.
std::vector<std::pair<int64_t, PlannedAttention::Kernels>> widths(const at::Device& device) {
  std::vector<std::pair<int64_t, PlannedAttention::Kernels>> all{{48, PlannedAttention::Kernels::fastest}};
  for (const auto kernels : test::attention_kernels(device)) all.emplace_back(256, kernels);
  return all;
}

struct RowCase {
  std::string name;
  std::vector<WorkItem> items;
};

std::vector<RowCase> rows(const Fixture& f) {
  const TokenSet all = TokenSet::all(), columns = TokenSet::columns(f.index({0, 2, 5, 11})),
                 one = TokenSet::columns(f.index({7}));
  const TokenSet list = TokenSet::list(f.index({1, 2, 3, 13, 22, 23}));
  const KeyRange window{0, 7 * kPlane};
  std::vector<RowCase> out{
      {"one chunk", {{0, 0, all, {700, 700, 700}, f.keys(0)}}},
      {"all chunks, both branches",
       {{0, 0, all, {20, 20, 20}, f.keys(0)},
        {1, 0, all, {500, 500}, f.keys(1)},
        {2, 0, all, {900, 900}, f.keys(2)},
        {0, 1, all, {20, 20, 20}, f.keys(0)},
        {1, 1, all, {500, 500}, f.keys(1)},
        {2, 1, all, {900, 900}, f.keys(2)}}},
      {"every frame its own timestep", {{0, 0, all, {0, 20, 999}, f.keys(0)}, {1, 0, all, {20, 333.5}, f.keys(1)}}},
      {"one key range for all",
       {{0, 0, all, {20, 20, 20}, window}, {1, 0, columns, {500, 500}, window}, {0, 1, all, {20, 20, 20}, window}}},
      {"columns and a list",
       {{0, 0, columns, {20, 20, 20}, f.keys(0)},
        {1, 0, list, {500, 700}, f.keys(1)},
        {2, 0, one, {900, 900}, f.keys(2)},
        {1, 1, columns, {500, 500}, f.keys(1)}}},
      {"different sets in the branches",
       {{0, 0, columns, {20, 20, 20}, f.keys(0)}, {0, 1, one, {20, 20, 20}, f.keys(0)}}},
      {"one branch alone", {{1, 1, columns, {20, 20}, f.keys(1)}}},
      {"keys from the middle",
       {{2, 0, all, {20, 20}, {3 * kPlane, 7 * kPlane}}, {2, 1, all, {20, 20}, {3 * kPlane, 7 * kPlane}}}},
  };
  out.push_back(out[1]);
  out.back().name = "without writing keys and values";
  out.back().items[1].writes_kv = out.back().items[5].writes_kv = false;
  return out;
}

void check_equal(const KvCache& a, const KvCache& b, double tolerance) {
  for (int64_t layer = 0; layer < 2; ++layer)
    for (int64_t branch = 0; branch < 2; ++branch) {
      const auto &x = a.layer(layer, branch), &y = b.layer(layer, branch);
      for (const auto& [p, q] : {std::pair(x.k, y.k), std::pair(x.v, y.v)}) {
        // Norms would let a row slip that was never written, or one too many.
        CHECK(at::equal(p.flatten(1).eq(0).all(1), q.flatten(1).eq(0).all(1)));
        if (q.norm().item<double>() > 0) CHECK(test::relative_error(p, q) < tolerance);
      }
    }
}

}  // namespace

TEST_CASE("the fused row equals the plain path") {
  at::globalContext().setAllowTF32CuBLAS(false);
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf})
      for (const auto& [dim, kernels] : widths(device)) {
        Fixture f(device, dtype, dim, 8, 6, kernels);
        // What one rounding a step more or less may do after two layers.
        const double tolerance = dtype == at::kFloat ? 2e-5 : dtype == at::kHalf ? 5e-3 : 3e-2;
        const std::vector<RowCase> cases = rows(f);
        std::vector<std::vector<at::Tensor>> wanted;
        std::vector<KvCache> caches;
        for (const RowCase& c : cases) {
          caches.push_back(f.cache());
          wanted.push_back(f.forward(c.items, caches.back()));
        }
        f.tiny.transformer->merge_projections();
        for (size_t i = 0; i < cases.size(); ++i) {
          INFO(cases[i].name << ", dim " << dim << ", " << c10::toString(dtype) << " on " << device.str());
          KvCache kv = f.cache();
          const auto got = f.forward(cases[i].items, kv);
          REQUIRE(got.size() == wanted[i].size());
          for (size_t j = 0; j < got.size(); ++j) {
            CHECK(got[j].sizes() == wanted[i][j].sizes());
            CHECK(got[j].scalar_type() == dtype);
            CHECK(test::relative_error(got[j], wanted[i][j]) < tolerance);
          }
          check_equal(kv, caches[i], tolerance);
        }
      }
}

// Chunks 1 and 2 are called for both branches together, ahead of the second branch's chunk 0, whose queries lie where chunk 1's result would.
TEST_CASE("a row's results keep off queries that have not attended yet") {
  at::globalContext().setAllowTF32CuBLAS(false);
  for (const auto& device : test_devices())
    for (const auto& [dim, kernels] : widths(device)) {
      Fixture f(device, at::kFloat, dim, 12, 12, kernels);
      const TokenSet all = TokenSet::all(), few = TokenSet::columns(f.index({3, 17, 35})),
                     more = TokenSet::columns(f.index({0, 1, 2, 4, 9, 16, 20, 21, 22, 30, 34, 35}));
      std::vector<WorkItem> items;
      for (int branch = 0; branch < 2; ++branch)
        items.insert(items.end(), {{0, branch, branch == 0 ? more : few, {20, 20, 20}, f.keys(0)},
                                   {1, branch, all, {500, 500}, f.keys(1)},
                                   {2, branch, all, {900, 900}, f.keys(2)}});
      KvCache plain = f.cache(), fused = f.cache();
      const auto want = f.forward(items, plain);
      f.tiny.transformer->merge_projections();
      const auto got = f.forward(items, fused);
      for (size_t i = 0; i < items.size(); ++i) {
        INFO("item " << i << ", dim " << dim << " on " << device.str());
        CHECK(test::relative_error(got[i], want[i]) < 2e-5);
      }
    }
}

TEST_CASE("merging leaves the plain functions as they were") {
  for (const auto& device : test_devices()) {
    Fixture f(device, at::kFloat, 48);
    const at::Tensor text = f.tiny.transformer->text_embed(at::randn({5, 12}, f.options));
    const auto before = f.tiny.transformer->text_kv(1, text);
    const int64_t bytes = f.tiny.transformer->weight_bytes();
    f.tiny.transformer->merge_projections();
    f.tiny.transformer->merge_projections();
    CHECK(at::equal(f.tiny.transformer->text_kv(1, text).first, before.first));
    CHECK(f.tiny.transformer->weight_bytes() == bytes);
    const auto& block = f.tiny.transformer->layer(0);
    CHECK(block.self.v.weight.storage().is_alias_of(block.self_qkv.weight.storage()));
  }
}

TEST_CASE("the head after merging equals the head before") {
  for (const auto& device : test_devices())
    for (const auto dtype : test_dtypes()) {
      Fixture f(device, dtype, 48);
      const std::vector<at::Tensor> hidden{at::randn({3 * kPlane, 48}, f.options).to(dtype),
                                           at::randn({kPlane, 48}, f.options).to(dtype)};
      const std::vector<std::vector<double>> timesteps{{999, 20, 500}, {700}};
      const auto heads = [&] {
        std::vector<at::Tensor> out;
        for (size_t i = 0; i < hidden.size(); ++i) out.push_back(f.tiny.backbone().head(hidden[i], timesteps[i]));
        return out;
      };
      const auto plain = heads();
      f.tiny.transformer->merge_projections();
      const auto fused = heads();
      for (size_t i = 0; i < hidden.size(); ++i) {
        CHECK(fused[i].sizes() == plain[i].sizes());
        CHECK(fused[i].scalar_type() == at::kFloat);
        CHECK(test::relative_error(fused[i], plain[i]) < 1e-5);
      }
    }
}

TEST_CASE("in a fused row a subset of all tokens equals the full pass bit for bit") {
  for (const auto& device : test_devices())
    for (const auto dtype : test_dtypes())
      for (const auto& [dim, kernels] : widths(device)) {
        Fixture f(device, dtype, dim, 8, 6, kernels);
        f.tiny.transformer->merge_projections();
        const auto every = [&](int64_t n) { return at::arange(n, f.options.dtype(at::kLong)); };
        std::vector<std::vector<at::Tensor>> outputs;
        std::vector<KvCache> caches;
        for (const TokenSet& set :
             {TokenSet::all(), TokenSet::list(every(3 * kPlane)), TokenSet::columns(every(kPlane))}) {
          caches.push_back(f.cache());
          outputs.push_back(f.forward(
              {{0, 0, set, {700, 700, 700}, f.keys(0)}, {0, 1, set, {700, 700, 700}, f.keys(0)}}, caches.back()));
        }
        for (size_t i = 1; i < outputs.size(); ++i) {
          for (size_t b = 0; b < 2; ++b) CHECK(at::equal(outputs[i][b], outputs[0][b]));
          for (int64_t layer = 0; layer < 2; ++layer)
            for (int64_t b = 0; b < 2; ++b) {
              CHECK(at::equal(caches[i].layer(layer, b).k, caches[0].layer(layer, b).k));
              CHECK(at::equal(caches[i].layer(layer, b).v, caches[0].layer(layer, b).v));
            }
        }
      }
}

TEST_CASE("a fused row over compressed keys equals the plain path, and hands over its queries") {
  for (const auto& device : test_devices())
    for (const auto dtype : test_dtypes()) {
      Fixture f(device, dtype, 48);
      const at::Tensor keys = at::randn({10, 2, 24}, f.options), values = at::randn({10, 2, 24}, f.options),
                       bias = at::randn({10}, f.options);
      const std::vector<WorkItem> items{{1, 0, TokenSet::all(), {20, 20}, f.keys(1)},
                                        {2, 0, TokenSet::columns(f.index({1, 3})), {20, 20}, f.keys(2)},
                                        {1, 1, TokenSet::all(), {20, 20}, f.keys(1)},
                                        {2, 1, TokenSet::columns(f.index({1, 3})), {20, 20}, f.keys(2)}};
      struct Result {
        std::vector<at::Tensor> hidden;
        std::vector<std::pair<std::pair<int64_t, int>, at::Tensor>> queries;
      };
      const auto run = [&] {
        Result result;
        KvCache kv = f.cache();
        // Chunk 0 is ten rows in both branches of layer 0, with a bias in one of them; layer 1 dropped it.
        kv.layer(0, 0).replace_before(3 * kPlane, keys, values, bias);
        kv.layer(0, 1).replace_before(3 * kPlane, keys, values);
        for (int b = 0; b < 2; ++b) kv.layer(1, b).hold({3 * kPlane, 7 * kPlane});
        kv.on_queries = [&](int64_t layer, int branch, const at::Tensor& q) {
          result.queries.push_back({{layer, branch}, q.clone()});
        };
        result.hidden = f.forward(items, kv);
        return result;
      };
      const Result plain = run();
      f.tiny.transformer->merge_projections();
      const Result fused = run();
      const double tolerance = dtype == at::kFloat ? 2e-5 : 3e-2;
      for (size_t i = 0; i < items.size(); ++i)
        CHECK(test::relative_error(fused.hidden[i], plain.hidden[i]) < tolerance);
      REQUIRE(fused.queries.size() == plain.queries.size());
      for (size_t i = 0; i < plain.queries.size(); ++i) {
        CHECK(fused.queries[i].first == plain.queries[i].first);
        CHECK(fused.queries[i].second.sizes() == plain.queries[i].second.sizes());
        CHECK(test::relative_error(fused.queries[i].second, plain.queries[i].second) < tolerance);
      }
    }
}
