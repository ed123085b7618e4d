// Bytes of the MAGI-1 transformer in closed form, against its weights and the published sizes.
#include "models/magi/memory.h"

#include "models/magi/backbone.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/models/magi_tiny.h"

using namespace longtake;

namespace {

magi::ModelConfig published(int64_t dim, int64_t ffn, int64_t heads, int64_t layers) {
  magi::ModelConfig c;
  c.dim = dim, c.ffn_dim = ffn, c.heads = heads, c.kv_heads = 8, c.head_width = 128, c.layers = layers;
  c.in_channels = c.out_channels = 16;
  c.condition_dim = dim / 4, c.caption_dim = 4096, c.caption_length = 800;
  return c;
}

}  // namespace

TEST_CASE("MAGI-1: counted parameters are those of the weights") {
  for (const bool gated : {false, true}) {
    magi::ModelConfig c = test::tiny_magi_config();
    c.gated_mlp = gated;
    double stored = 0, quantised = 0;
    for (const auto& [name, tensor] : test::tiny_magi_weights(c)) stored += static_cast<double>(tensor.numel());
    CHECK(magi::parameters(c) == stored);
    auto weights = test::tiny_magi_weights(c);
    test::quantise_layer(weights, 1);
    for (const auto& [name, tensor] : weights)
      if (tensor.scalar_type() == at::kFloat8_e4m3fn) quantised += static_cast<double>(tensor.numel());
    CHECK(magi::quantised_parameters(c) == quantised);
  }
  // Spec magi1.md 1.5.
  CHECK(magi::parameters(published(3072, 12288, 24, 34)) == 4459898128.0);
}

TEST_CASE("MAGI-1: weights take what is said, offloaded or not") {
  for (const auto dtype : test_dtypes()) {
    const auto transformer = test::tiny_magi(test::tiny_magi_config(), /*distilled=*/true, dtype);
    const magi::ModelConfig& c = transformer->config();
    const magi::ComputeForm form{.value_bytes = static_cast<int64_t>(c10::elementSize(dtype))};
    CHECK(magi::weight_bytes(c, form, magi::parameters(c), 0) == Approx(static_cast<double>(transformer->weight_bytes())).epsilon(0.03));
  }
}

TEST_CASE("MAGI-1: keys and values of a chunk are as the reference's, and of a text as they are kept") {
  const magi::ComputeForm bf16{.value_bytes = 2};
  const magi::ModelConfig c = published(3072, 12288, 24, 34);
  CHECK(magi::kv_bytes(c, bf16, 12150) == Approx(1.69e9).epsilon(0.005));  // spec section 7, 720x720
  CHECK(magi::kv_bytes(c, bf16, 21600) == Approx(3.0e9).epsilon(0.01));    // 720x1280
  const auto transformer = test::tiny_magi(test::tiny_magi_config());
  const magi::TextKv text = magi::prepare_text(*transformer, at::randn({7, 12}));
  double bytes = 0;
  for (const auto& [k, v] : text.layers) bytes += static_cast<double>(k.storage().nbytes() + v.storage().nbytes());
  CHECK(magi::text_kv_bytes(transformer->config(), {.value_bytes = 4}, 7) == bytes);
}

TEST_CASE("MAGI-1: e4m3 layers halve the weights of bfloat16") {
  const magi::ModelConfig c = published(3072, 12288, 24, 34);
  const double quantised = 32 * magi::quantised_parameters(c), all = magi::parameters(c);
  const double wide = magi::weight_bytes(c, {.value_bytes = 2}, all, quantised), narrow = magi::weight_bytes(c, {.value_bytes = 2, .fp8 = true}, all, quantised);
  CHECK(wide == Approx(8.92e9 + 0.08e9).epsilon(0.005));
  CHECK(wide - narrow == quantised);
  CHECK(magi::layer_bytes(c, {.value_bytes = 2}, true) - magi::layer_bytes(c, {.value_bytes = 2, .fp8 = true}, true) == magi::quantised_parameters(c));
}
