// MAGI-1's layers in host memory: nothing of a result depends on it.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include "models/magi/backbone.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/models/magi_tiny.h"

using namespace longtake;

namespace {

std::map<std::string, at::Tensor> on(const at::Device& device, std::map<std::string, at::Tensor> weights) {
  for (auto& [name, tensor] : weights) tensor = tensor.to(device);
  return weights;
}

// What two rows of a distilled model compute and keep, text keys and gates included.
std::vector<at::Tensor> results(const magi::Transformer& transformer, const at::Tensor& latents, const at::Tensor& caption) {
  const at::Device device = transformer.device();
  const magi::TextKv text = magi::prepare_text(transformer, caption), none = magi::prepare_text(transformer, transformer.null_caption().narrow(0, 0, 5));
  WindowGeometry geometry{.chunks = {{0, 2}, {2, 2}}, .latent_height = 6, .latent_width = 4};
  const std::vector<const magi::TextKv*> texts(2, &text);
  const magi::MagiBackbone backbone(transformer, {{texts, false, 0}, {texts, false, -1}}, none, geometry);
  KvCache kv(backbone.kv_shape(), transformer.dtype(), device);
  const std::vector<at::Tensor> inputs(2, backbone.embed(latents.to(device)));
  const at::Tensor some = at::arange(2, 9, at::TensorOptions().dtype(at::kLong).device(device));
  std::vector<at::Tensor> out;
  for (const TokenSet& set : {TokenSet::all(), TokenSet::list(some)}) {
    const WorkItem stored{.chunk = 0, .branch = 0, .tokens = set, .timesteps = {0.4, 0.4}, .keys = {0, 12}, .step_size = 0.1};
    const WorkItem copy{.chunk = 1, .branch = 1, .timesteps = {0.2, 0.2}, .keys = {12, 24}, .writes_kv = false, .step_size = 0.1};
    for (const at::Tensor& hidden : backbone.forward(std::vector{stored, copy}, inputs, kv)) out.push_back(hidden.clone());
  }
  out.push_back(backbone.head(out[0], std::vector<double>{0.4, 0.4}));
  for (int64_t layer = 0; layer < transformer.config().layers; ++layer) {
    out.insert(out.end(), {kv.layer(layer, 0).k, kv.layer(layer, 0).v, text.layers[layer].first, text.layers[layer].second});
    out.push_back(transformer.gates(layer, at::arange(transformer.config().condition_dim).to(device, transformer.dtype()).view({1, -1})));
  }
  return out;
}

}  // namespace

TEST_CASE("MAGI-1 with its layers offloaded gives the same bits, in every precision") {
  using magi::QuantisedAs;
  for (const at::Device& device : test_devices())
    for (const int64_t layers : {1, 2, 3})
      for (const auto dtype : test_dtypes())
        for (const auto as : {QuantisedAs::working_dtype, QuantisedAs::fp8}) {
          const bool quantised = as == QuantisedAs::fp8;
          if (quantised && dtype != at::kBFloat16) continue;
          INFO(layers << " layers, " << c10::toString(dtype) << ", fp8 " << quantised << ", " << device.str());
          magi::ModelConfig config = test::tiny_magi_config();
          config.layers = layers;
          auto weights = test::tiny_magi_weights(config);
          if (quantised) test::quantise_layer(weights, layers - 1);
          const at::Tensor latents = at::randn({4, 2, 6, 4}), caption = at::randn({7, 12});
          test::MapSource here(on(device, weights), dtype), host(weights, dtype);
          const magi::Transformer plain(here, config, /*distilled=*/true, as);
          magi::Transformer moved(host, config, /*distilled=*/true, as);
          moved.offload(device);
          CHECK((moved.offloaded() && !plain.offloaded()));
          CHECK(moved.device() == device);
          CHECK(moved.in_fp8() == plain.in_fp8());
          CHECK(moved.weight_bytes() == plain.weight_bytes());
          const auto a = results(plain, latents, caption), b = results(moved, latents, caption);
          REQUIRE(a.size() == b.size());
          for (size_t i = 0; i < a.size(); ++i) CHECK(at::equal(a[i], b[i]));
        }
}

TEST_CASE("a MAGI-1 transformer is offloaded once, from the CPU") {
  auto transformer = test::tiny_magi(test::tiny_magi_config());
  transformer->offload(at::kCPU);
  CHECK_THROWS_AS(transformer->offload(at::kCPU), Error);
}
