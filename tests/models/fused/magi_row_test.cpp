// Rows of MAGI-1 as they run on each device in bfloat16, kernels where there are any, against the same rows on the CPU in
// float32. The width of heads is one that those are made for.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include "attention/planned_attention.h"
#include "models/magi/backbone.h"
#include "tests/attention_kernels.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"
#include "tests/models/magi_tiny.h"

using namespace longtake;

namespace {

magi::ModelConfig config(bool gated) {
  magi::ModelConfig c = test::tiny_magi_config();
  c.dim = 384, c.ffn_dim = 256, c.heads = 3, c.kv_heads = 1, c.head_width = 128;
  c.gated_mlp = gated;
  return c;
}

constexpr int64_t kHeight = 12, kWidth = 20, kPlane = kHeight / 2 * kWidth / 2, kTokens = 2 * kPlane;

struct Model {
  std::unique_ptr<magi::Transformer> transformer;
  std::unique_ptr<PlannedAttention> plans;
  magi::TextKv caption, none;

  Model(bool gated, const at::Device& device, at::ScalarType dtype, const at::Tensor& text, PlannedAttention::Kernels kernels = PlannedAttention::Kernels::fastest) {
    auto weights = test::tiny_magi_weights(config(gated));
    for (auto& [name, tensor] : weights) tensor = tensor.to(device);
    test::MapSource source(weights, dtype);
    transformer = std::make_unique<magi::Transformer>(source, config(gated), /*distilled=*/false);
    caption = magi::prepare_text(*transformer, text);
    none = magi::prepare_text(*transformer, transformer->null_caption().narrow(0, 0, 5));
    if (!device.is_cuda()) return;
    plans = std::make_unique<PlannedAttention>(device, kernels);
    plans->on_refusal = [](const std::string& why) { WARN("refused: " << why); };
    const std::string why = plans->try_out(dtype, 3, 128, 1);
    if (!why.empty() && dtype == at::kBFloat16) WARN("no plans on " << device.str() << ": " << why);
  }

  // A finished chunk and one behind it, then tokens of both; a branch without a store beside them.
  std::vector<at::Tensor> rows(const std::vector<at::Tensor>& latents) const {
    const std::vector<const magi::TextKv*> text(2, &caption), no_text(2, &none);
    const magi::MagiBackbone backbone(*transformer, {{text, false, 0}, {no_text, true, -1}}, none,
                                      {.chunks = {{0, 2}, {2, 2}}, .latent_height = kHeight, .latent_width = kWidth}, plans.get());
    KvCache kv(backbone.kv_shape(), transformer->dtype(), transformer->device());
    std::vector<at::Tensor> inputs, out;
    for (const at::Tensor& x : {latents[0], latents[1], latents[1]}) inputs.push_back(backbone.embed(x));
    const at::Tensor some = at::arange(3, kPlane, 2, at::kLong).to(transformer->device());
    for (const TokenSet& set : {TokenSet::all(), TokenSet::columns(some)}) {
      const std::vector<WorkItem> items{{.chunk = 0, .branch = 0, .tokens = set, .timesteps = {0.9, 0.9}, .keys = {0, kTokens}},
                                        {.chunk = 1, .branch = 0, .tokens = set, .timesteps = {0.3, 0.3}, .keys = {0, 2 * kTokens}},
                                        {.chunk = 1, .branch = 1, .timesteps = {0.3, 0.3}, .keys = {kTokens, 2 * kTokens}, .writes_kv = false}};
      for (const at::Tensor& hidden : backbone.forward(items, inputs, kv)) out.push_back(hidden.to(at::kCPU, at::kFloat));
    }
    return out;
  }
};

}  // namespace

TEST_CASE("MAGI-1: rows in bfloat16 are those in float32 but for rounding, whatever runs them") {
  for (const bool gated : {false, true}) {
    const at::Tensor text = at::randn({7, 12});
    const std::vector<at::Tensor> latents{at::randn({4, 2, kHeight, kWidth}), at::randn({4, 2, kHeight, kWidth})};
    const auto want = Model(gated, at::kCPU, at::kFloat, text).rows(latents);
    for (const auto& device : test_devices())
      for (const auto kernels : test::attention_kernels(device))
        for (const auto dtype : test_dtypes()) {
          const auto got = Model(gated, device, dtype, text, kernels).rows(latents);
          for (size_t i = 0; i < want.size(); ++i) {
            INFO("gated " << gated << ", item " << i << ", " << c10::toString(dtype) << " on " << device.str());
            CHECK(test::relative_error(got[i], want[i]) < (dtype == at::kFloat ? 1e-4 : 3e-2));
          }
        }
  }
}

TEST_CASE("MAGI-1: a row that is repeated gives the same bits") {
  const at::Tensor text = at::randn({7, 12});
  const std::vector<at::Tensor> latents{at::randn({4, 2, kHeight, kWidth}), at::randn({4, 2, kHeight, kWidth})};
  for (const auto& device : test_devices())
    for (const auto kernels : test::attention_kernels(device)) {
      const Model model(false, device, at::kBFloat16, text, kernels);
      const auto first = model.rows(latents), again = model.rows(latents);
      for (size_t i = 0; i < first.size(); ++i) CHECK(at::equal(first[i], again[i]));
    }
}
