// Weights that stay in host memory: when they are fetched, and that nothing of a result depends on it.
#include "models/ops/block_stream.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include "base/error.h"
#include "models/skyreels/backbone.h"
#include "models/weights/random_source.h"
#include "tests/catch.h"
#include "tests/devices.h"

using namespace longtake;
using namespace longtake::skyreels;

namespace {

// A store on a device that runs behind the host: work and copies are noted in the order in which they are asked for, and each is checked
// against what streams and events promise.
struct WatchedStore final : BlockStore {
  int64_t in_place[kBlocksOnDevice] = {-1, -1};
  bool awaited[kBlocksOnDevice] = {};   // since the place's copy
  bool released[kBlocksOnDevice] = {true, true};
  std::vector<std::string> log;

  void fetch(int64_t block, int64_t place) override {
    CHECK(place == block % kBlocksOnDevice);
    CHECK(released[place]);  // nobody computes with what the copy overwrites
    in_place[place] = block, awaited[place] = false;
    log.push_back(fmt::format("fetch {}", block));
  }
  void await(int64_t place) override { awaited[place] = true; }
  void release(int64_t place) override { released[place] = true; }

  void compute(int64_t block) {
    const int64_t place = block % kBlocksOnDevice;
    CHECK((in_place[place] == block && awaited[place]));
    released[place] = false;
    log.push_back(fmt::format("compute {}", block));
  }
};

// The same weights on any device.
class MovedSource final : public WeightSource {
 public:
  MovedSource(at::ScalarType dtype, at::Device device) : random_(5, at::kCPU, dtype), device_(device) {}
  bool has(const std::string& name) const override { return random_.has(name); }
  std::vector<int64_t> shape(const std::string& name) const override { return random_.shape(name); }
  at::Tensor take(const std::string& name, const std::vector<int64_t>& shape) override { return random_.take(name, shape).to(device_); }

 private:
  RandomSource random_;
  at::Device device_;
};

void pass(BlockStream& stream, WatchedStore& store, int64_t blocks) {
  for (int64_t i = 0; i < blocks; ++i) {
    stream.enter(i);
    store.compute(i);
    stream.leave(i);
  }
}

int64_t count(const std::vector<std::string>& log, const std::string& word) {
  return std::count_if(log.begin(), log.end(), [&](const std::string& line) { return line.starts_with(word); });
}

}  // namespace

TEST_CASE("the next block is fetched before the present one computes, and each once a pass") {
  for (const int64_t blocks : {1, 2, 3, 5, 30}) {
    INFO(blocks << " blocks");
    WatchedStore store;
    BlockStream stream(store, blocks);
    constexpr int64_t kPasses = 3;
    for (int64_t i = 0; i < kPasses; ++i) pass(stream, store, blocks);
    const auto place_of = [&](const std::string& line, size_t from) { return std::find(store.log.begin() + from, store.log.end(), line) - store.log.begin(); };
    for (int64_t i = 0; i + 1 < blocks; ++i) CHECK(place_of(fmt::format("fetch {}", i + 1), 0) < place_of(fmt::format("compute {}", i), 0));
    CHECK(count(store.log, "compute") == kPasses * blocks);
    // One or two blocks stay; of three, the middle one does. Otherwise each is fetched once a pass, the first one already for the next pass.
    const int64_t fetches = blocks <= 2 ? blocks : blocks == 3 ? 2 * kPasses + 2 : kPasses * blocks + 1;
    CHECK(count(store.log, "fetch") == fetches);
  }
}

TEST_CASE("blocks may come in any order, one at a time") {
  WatchedStore store;
  BlockStream stream(store, 7);
  for (const int64_t block : {3, 1, 1, 6, 0, 5, 2, 4, 4, 3}) {
    stream.enter(block);
    store.compute(block);
    CHECK_THROWS_AS(stream.enter(block), Error);
    stream.leave(block);
    CHECK_THROWS_AS(stream.leave(block), Error);
  }
  CHECK_THROWS_AS(stream.enter(7), Error);
}

TEST_CASE("a fetch that fails is tried again") {
  struct Failing final : BlockStore {
    int fetches = 0;
    void fetch(int64_t, int64_t) override {
      if (++fetches == 1) throw std::runtime_error("no");
    }
    void await(int64_t) override {}
    void release(int64_t) override {}
  } store;
  BlockStream stream(store, 1);
  CHECK_THROWS_AS(stream.enter(0), std::runtime_error);
  CHECK_NOTHROW(stream.leave(0));
  CHECK(store.fetches == 2);
}

TEST_CASE("a store gives back the values of any dtype and shape, on the device while they are there") {
  for (const at::Device& device : test_devices()) {
    const auto on = at::TensorOptions().device(device);
    DeviceBlockStore store(device);
    std::vector<std::vector<at::Tensor>> blocks(3), copies(3);
    for (int64_t i = 0; i < 3; ++i) {
      blocks[i] = {at::randn({3 + i, 5}, on), at::Tensor(), at::randn({7}, on).to(at::kBFloat16), at::randn({2, 4}, on).to(at::kFloat8_e4m3fn)};
      for (const at::Tensor& t : blocks[i]) copies[i].push_back(t.defined() ? t.clone() : t);
      std::vector<at::Tensor*> tensors;
      for (at::Tensor& t : blocks[i]) tensors.push_back(&t);
      store.add(tensors);
    }
    store.finish();
    BlockStream stream(store, 3);
    for (int64_t i : {0, 1, 2, 0, 2, 1}) {
      stream.enter(i);
      for (size_t t = 0; t < blocks[i].size(); ++t) {
        REQUIRE(blocks[i][t].defined() == copies[i][t].defined());
        if (!blocks[i][t].defined()) continue;
        CHECK(blocks[i][t].device() == device);
        CHECK(blocks[i][t].scalar_type() == copies[i][t].scalar_type());
        CHECK(at::equal(blocks[i][t].to(at::kFloat), copies[i][t].to(at::kFloat)));
      }
      stream.leave(i);
    }
    CHECK(blocks[0][0].is_alias_of(blocks[2][0]));  // blocks 0 and 2 share a place
  }
}

TEST_CASE("an offloaded transformer gives the same bits: any precision, partial rows, both branches") {
  const auto layers = GENERATE(3, 4);
  const auto mode = GENERATE(0, 1, 2, 3, 4, 5);
  const at::ScalarType dtype = mode < 2 ? at::kFloat : at::kBFloat16;
  const bool merge = mode % 2 == 1, fp8 = mode >= 4;
  const TransformerConfig config{.dim = 256, .ffn_dim = 512, .layers = layers, .heads = 2, .in_channels = 16, .out_channels = 16, .text_dim = 64,
                                 .freq_dim = 64};
  for (const at::Device& device : test_devices()) {
    INFO(config.layers << " layers, " << c10::toString(dtype) << ", merged " << merge << ", fp8 " << fp8 << ", " << device.str());
    WindowGeometry geometry;
    geometry.chunks = {{0, 2}, {2, 2}};
    geometry.latent_height = geometry.latent_width = 8;
    const at::Tensor context = at::randn({6, 64}), latents = at::randn({16, 2, 8, 8});
    const at::Tensor some = at::arange(3, 20, at::TensorOptions().dtype(at::kLong).device(device));
    std::vector<std::vector<at::Tensor>> results;
    for (const bool offload : {false, true}) {
      MovedSource source(dtype, offload ? at::Device(at::kCPU) : device);
      Transformer transformer(source, config);
      if (offload) {
        CHECK(transformer.offload(device, merge, fp8) == 0);
      } else {
        if (merge) transformer.merge_projections();
        if (fp8) CHECK(transformer.to_fp8() == 0);
      }
      CHECK(transformer.offloaded() == offload);
      CHECK(transformer.merged() == merge);
      const TextKv cond = prepare_text(transformer, context), uncond = prepare_text(transformer, context * 0.5);
      const SkyReelsBackbone backbone(transformer, {&cond, &uncond}, geometry, 1);
      KvCache kv(backbone.kv_shape(), dtype, device);
      const std::vector<at::Tensor> inputs(2, backbone.embed(latents.to(device)));
      std::vector<at::Tensor>& out = results.emplace_back();
      for (const TokenSet& set : {TokenSet::all(), TokenSet::list(some)})
        for (const at::Tensor& hidden : backbone.forward(
                 std::vector<WorkItem>{{0, 0, set, {700, 700}, {0, 32}}, {0, 1, set, {700, 700}, {0, 32}}}, inputs, kv))
          out.push_back(hidden.clone());
      out.push_back(backbone.head(out[0], std::vector<double>{700, 700}));
      for (int64_t layer = 0; layer < config.layers; ++layer) out.push_back(kv.layer(layer, 1).v);
    }
    REQUIRE(results[0].size() == results[1].size());
    for (size_t i = 0; i < results[0].size(); ++i) CHECK(at::equal(results[0][i], results[1][i]));
  }
}
