// Block 0's attention, which both branches of a fused row share while their keys agree: the same bits as without
// sharing, and no sharing where anything differs.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/record_function.h>

#include "base/cuda.h"
#include "base/op_scope.h"
#include "tests/attention_kernels.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/models/tiny_skyreels.h"

using namespace longtake;

namespace {

double g_attention_flops = 0;
int g_attention_calls = 0;

std::unique_ptr<at::ObserverContext> count_attention(const at::RecordFunction& f) {
  const auto label = OpScope::parse(f.name());
  if (label && label->name.starts_with("attention") && label->name != "attention on text")
    g_attention_flops += label->cost.flops, ++g_attention_calls;
  return nullptr;
}

// FLOPs of self-attention among the operations of a forward pass on this thread.
template <class Call>
double attention_flops(const Call& call) {
  g_attention_flops = g_attention_calls = 0;
  const auto handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(count_attention).scopes({at::RecordScope::USER_SCOPE}));
  call();
  at::removeCallback(handle);
  return g_attention_flops;
}

// Windows of two chunks of 1200 and 600 tokens: calls for the last are too short for block 0 to gain from one branch
// less.
struct Fixture {
  static constexpr int64_t kPlane = 300, kTokens = 6 * kPlane;
  test::TinySkyReels tiny;
  at::TensorOptions ints;
  PlannedAttention plans;
  skyreels::RowAttention attention;
  std::vector<at::Tensor> embedded;

  Fixture(at::Device device, at::ScalarType dtype, int64_t dim, bool fp8 = false, PlannedAttention::Kernels kernels = PlannedAttention::Kernels::fastest)
      : tiny(device, dtype, dim),
        ints(at::TensorOptions().dtype(at::kLong)),
        plans(device, kernels),
        attention{&plans, fp8, fp8} {
    tiny.geometry.chunks = {{0, 4}, {4, 2}};
    tiny.geometry.latent_height = 40;
    tiny.geometry.latent_width = 30;
    tiny.geometry.plane = kPlane;
    tiny.transformer->merge_projections();
    for (const auto type : {dtype, at::kFloat8_e4m3fn}) plans.try_out(type, 2, dim / 2);
    for (const auto& chunk : tiny.geometry.chunks)
      embedded.push_back(tiny.backbone().embed(
          at::randn({4, chunk.frames, 40, 30}, at::TensorOptions().dtype(at::kFloat).device(device))));
  }

  TokenSet columns(int64_t from, int64_t count) const {
    return TokenSet::columns(at::arange(from, from + count, ints).to(tiny.device));
  }
  skyreels::SkyReelsBackbone backbone() const {
    return {*tiny.transformer, {&tiny.cond, &tiny.uncond}, tiny.geometry, 1, {}, attention};
  }
  KvCache cache() const { return KvCache(backbone().kv_shape(), tiny.dtype, tiny.device); }
  int64_t end(int chunk) const { return tiny.geometry.start(chunk) + tiny.geometry.chunk_tokens(chunk); }

  struct Chunk {
    int chunk;
    std::vector<TokenSet> tokens;  // by branch
    double timestep;
    bool whole_window = false;
  };
  // With inputs that both branches have in common, or equal ones that the row cannot know to be equal.
  std::vector<at::Tensor> forward(const std::vector<Chunk>& chunks, KvCache& kv, bool common) const {
    std::vector<WorkItem> items;
    std::vector<at::Tensor> inputs;
    for (int branch = 0; branch < 2; ++branch)
      for (const Chunk& c : chunks) {
        if (c.tokens[branch].is_none()) continue;
        const int64_t frames = tiny.geometry.chunks[c.chunk].frames;
        items.push_back({c.chunk,
                         branch,
                         c.tokens[branch],
                         std::vector<double>(frames, c.timestep),
                         {0, c.whole_window ? kTokens : end(c.chunk)}});
        inputs.push_back(common ? embedded[c.chunk] : embedded[c.chunk].clone());
      }
    return backbone().forward(items, inputs, kv);
  }
  // Of self-attention in both layers, where block 0 attends once for both branches of these chunks.
  double flops(const std::vector<Chunk>& chunks, const std::vector<int>& once) const {
    double sum = 0;
    for (const Chunk& c : chunks)
      for (int branch = 0; branch < 2; ++branch) {
        const bool saved = branch == 1 && std::find(once.begin(), once.end(), c.chunk) != once.end();
        const auto rows = static_cast<double>(c.tokens[branch].count(tiny.geometry.chunks[c.chunk].frames, kPlane));
        sum += (saved ? 1 : 2) * 4 * rows *
               static_cast<double>((c.whole_window ? kTokens : end(c.chunk)) * tiny.config.dim);
      }
    return sum;
  }
};

// Dims, and what attends to heads of 128, which are for a GPU's kernels and slow elsewhere.
std::vector<std::pair<int64_t, PlannedAttention::Kernels>> widths(const at::Device& device) {
  std::vector<std::pair<int64_t, PlannedAttention::Kernels>> all{{48, PlannedAttention::Kernels::fastest}};
  if (!device.is_cpu())
    for (const auto kernels : test::attention_kernels(device)) all.emplace_back(256, kernels);
  return all;
}

struct Row {
  std::string name;
  std::vector<Fixture::Chunk> chunks;
  std::vector<int> once;  // chunks whose attention in block 0 both branches share
};

// One after the other on one cache.
std::vector<Row> rows(const Fixture& f) {
  const TokenSet all = TokenSet::all(), none = TokenSet::none(), columns = f.columns(0, 280),
                 others = f.columns(20, 280), few = f.columns(3, 40);
  const TokenSet list = TokenSet::list(at::arange(5, 1155, f.ints).to(f.tiny.device));
  const TokenSet on_host = TokenSet::columns(at::arange(0, 280, f.ints)),
                 again = TokenSet::columns(at::arange(0, 280, f.ints));
  return {
      {"one chunk", {{0, {all, all}, 900}}, {0}},
      {"two chunks", {{0, {all, all}, 800}, {1, {all, all}, 999}}, {0}},
      {"columns", {{0, {columns, columns}, 700}, {1, {few, few}, 950}}, {0}},
      {"a list", {{0, {list, list}, 600}}, {0}},
      {"columns of two equal tensors on the host", {{0, {on_host, again}, 500}}, {0}},
      {"one key range", {{0, {all, all}, 400, true}, {1, {few, few}, 900, true}}, {0, 1}},
      {"few tokens behind a prefix", {{1, {few, few}, 850}}, {}},
      {"other tokens in each branch", {{0, {columns, others}, 300}, {1, {all, all}, 800}}, {}},
      {"behind other tokens in each branch", {{0, {columns, columns}, 200}, {1, {all, all}, 750}}, {}},
      {"one branch alone", {{0, {all, none}, 100}}, {}},
      {"everything again", {{0, {all, all}, 50}, {1, {all, all}, 700}}, {}},
  };
}

void check_same_bits(const KvCache& a, const KvCache& b) {
  const auto bytes = [](const at::Tensor& x) { return x.view(at::kByte); };  // 8-bit floats cannot be compared
  for (int64_t layer = 0; layer < 2; ++layer)
    for (int64_t branch = 0; branch < 2; ++branch) {
      CHECK(at::equal(bytes(a.layer(layer, branch).k), bytes(b.layer(layer, branch).k)));
      CHECK(at::equal(bytes(a.layer(layer, branch).v), bytes(b.layer(layer, branch).v)));
    }
}

}  // namespace

TEST_CASE("rows whose branches share block 0's attention have the bits of rows that do not share it") {
  at::globalContext().setAllowTF32CuBLAS(false);
  for (const auto& device : test_devices())
    for (const auto& [dtype, fp8] :
         {std::pair{at::kFloat, false}, std::pair{at::kBFloat16, false}, std::pair{at::kBFloat16, true}})
      for (const auto& [dim, kernels] : widths(device)) {
        Fixture f(device, dtype, dim, fp8, kernels);
        KvCache shared = f.cache(), apart = f.cache();
        for (const Row& row : rows(f)) {
          INFO(row.name << ", dim " << dim << ", " << c10::toString(dtype) << (fp8 ? ", attention in fp8 on " : " on ")
                        << device.str());
          std::vector<at::Tensor> got, want;
          CHECK(attention_flops([&] { got = f.forward(row.chunks, shared, true); }) == f.flops(row.chunks, row.once));
          CHECK(attention_flops([&] { want = f.forward(row.chunks, apart, false); }) == f.flops(row.chunks, {}));
          REQUIRE(got.size() == want.size());
          for (size_t i = 0; i < got.size(); ++i) CHECK(at::equal(got[i], want[i]));
          check_same_bits(shared, apart);
        }
      }
}

TEST_CASE("a run that goes on from its state shares block 0's attention where its keys agree") {
  for (const auto& device : test_devices()) {
    for (const auto& [dtype, fp8] :
         {std::pair{at::kFloat, false}, std::pair{at::kBFloat16, false}, std::pair{at::kBFloat16, true}}) {
      INFO(device.str() << ", " << c10::toString(dtype) << (fp8 ? ", attention in fp8" : ""));
      for (const auto& [dim, kernels] : widths(device)) {
        if (!device.is_cpu() && dim == 48) continue;
        Fixture f(device, dtype, dim, fp8, kernels);
        const std::vector<Row> all = rows(f);
        for (const bool agree : {true, false}) {
          KvCache kv = f.cache(), back = f.cache();
          f.forward(all[0].chunks, kv, true);
          if (!agree) f.forward({{0, {TokenSet::all(), TokenSet::none()}, 700}}, kv, true);
          State state;
          kv.save(state);
          back.load(state);
          CHECK(back.branches_agree() == agree);
          const std::vector<at::Tensor> want = f.forward(all[1].chunks, kv, true);
          std::vector<at::Tensor> got;
          CHECK(attention_flops([&] { got = f.forward(all[1].chunks, back, true); }) ==
                f.flops(all[1].chunks, agree ? all[1].once : std::vector<int>{}));
          for (size_t i = 0; i < got.size(); ++i) CHECK(at::equal(got[i], want[i]));
        }
      }
    }
  }
}

TEST_CASE("a row's chunks attend in one launch where our kernel takes them, else one after the other") {
  for (const auto& device : test_devices())
    for (const auto& [dim, kernels] : widths(device)) {
      Fixture f(device, at::kBFloat16, dim, false, kernels);
      KvCache kv = f.cache();
      const bool ours = dim == 256 && kernels == PlannedAttention::Kernels::fastest && cuda::capability(f.embedded[0]) == 90;
      attention_flops([&] { f.forward({{0, {TokenSet::all(), TokenSet::all()}, 800}, {1, {TokenSet::all(), TokenSet::all()}, 900}}, kv, true); });
      INFO("dim " << dim << " on " << device.str());
      CHECK(g_attention_calls == (ours ? 1 : 2) * f.tiny.config.layers);
    }
}
