// Random weights for measurements: a model of them must behave like one worth measuring.
#include <ATen/TensorOperators.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>

#include <cmath>

#include "attention/attend.h"
#include "attention/rope.h"
#include "base/error.h"
#include "models/skyreels/backbone.h"
#include "models/weights/random_source.h"
#include "tests/catch.h"

using namespace longtake;

namespace {

double rms(const at::Tensor& x) { return std::sqrt(x.to(at::kFloat).pow(2).mean().item<double>()); }

}  // namespace

TEST_CASE("random weights depend on seed and name alone") {
  RandomSource source(7, at::kCPU, at::kBFloat16);
  const at::Tensor a = source.take("blocks.0.ffn.0.weight", {64, 48});
  CHECK(a.scalar_type() == at::kBFloat16);
  CHECK_FALSE(at::equal(a, source.take("blocks.1.ffn.0.weight", {64, 48})));
  CHECK(at::equal(a, source.take("blocks.0.ffn.0.weight", {64, 48})));
  CHECK(at::equal(a, RandomSource(7, at::kCPU, at::kBFloat16).take("blocks.0.ffn.0.weight", {64, 48})));
  CHECK_FALSE(at::equal(a, RandomSource(8, at::kCPU, at::kBFloat16).take("blocks.0.ffn.0.weight", {64, 48})));
  CHECK(rms(a) * std::sqrt(48.0) == Approx(1).margin(0.1));
  CHECK(rms(source.take("head.head.weight", {64, 48})) > 0.1);
  CHECK(rms(source.take("decoder.conv1.weight", {32, 16, 3, 3, 3})) * std::sqrt(16.0 * 27) == Approx(1).margin(0.1));
  CHECK(rms(source.take("blocks.0.ffn.0.bias", {64})) == 0);
  CHECK_THROWS_AS(source.take("blocks.0.something", {4}), Error);
  CHECK_THROWS_AS(source.has("fps_embedding.weight"), Error);
}

TEST_CASE(
    "activations of a deep random model stay finite, and its attention looks at many keys and not at all of them "
    "alike") {
  const at::ScalarType dtype = GENERATE(at::kFloat, at::kBFloat16);
  const skyreels::TransformerConfig config{.dim = 256,
                                           .ffn_dim = 1024,
                                           .layers = 40,
                                           .heads = 2,
                                           .in_channels = 16,
                                           .out_channels = 16,
                                           .text_dim = 64,
                                           .freq_dim = 256,
                                           .fps_embedding = true};
  RandomSource source(1, at::kCPU, dtype);
  const skyreels::Transformer transformer(source, config);
  constexpr int64_t kFrames = 3, kHeight = 4, kWidth = 6, kTokens = kFrames * kHeight * kWidth;
  const at::Tensor latents = at::randn({16, kFrames, 2 * kHeight, 2 * kWidth});
  const skyreels::TextKv text = skyreels::prepare_text(transformer, at::randn({20, 64}));
  const auto time = transformer.time_embed(at::full({kFrames}, 500.0, at::kDouble), 1);
  const FrameModulation modulation(time.E, std::vector<int64_t>(kFrames, kHeight * kWidth));
  const at::Tensor rotations = rope_3d(kFrames, kHeight, kWidth, config.head_width(), at::kCPU);
  at::Tensor z = transformer.patch_embed(latents);
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    z = transformer.block(
        layer, z, modulation, rotations,
        [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
          const at::Tensor scores = at::einsum("qhw,khw->hqk", {q.to(at::kFloat), k.to(at::kFloat)}) / std::sqrt(128.0);
          const at::Tensor p = at::softmax(scores, -1);
          // 1 is a plain mean over all keys, 0 one key.
          const double entropy =
              -(p * p.clamp_min(1e-30).log()).sum(-1).mean().item<double>() / std::log(static_cast<double>(kTokens));
          INFO("layer " << layer << ", entropy " << entropy);
          CHECK(entropy > 0.5);
          CHECK(entropy < 0.98);
          return attend(q, k, v);
        },
        [&](const at::Tensor& q) { return attend(q, text.layers[layer].first, text.layers[layer].second); });
    INFO("layer " << layer << ", rms " << rms(z));
    REQUIRE(at::isfinite(z).all().item<bool>());
    CHECK(rms(z) > 0.1);
    CHECK(rms(z) < 100);
  }
  const at::Tensor velocity = transformer.head(z, time.e, kHeight, kWidth);
  CHECK(rms(velocity) > 0.1);
  CHECK(rms(velocity) < 10);
}
