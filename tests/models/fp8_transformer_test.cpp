// A transformer whose large products are in 8-bit floats.
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>

#include "attention/attend.h"
#include "attention/rope.h"
#include "models/skyreels/transformer.h"
#include "models/weights/random_source.h"
#include "tests/catch.h"
#include "tests/errors.h"

using namespace longtake;

namespace {

constexpr int64_t kFrames = 2, kHeight = 3, kWidth = 4, kTokens = kFrames * kHeight * kWidth;

const skyreels::TransformerConfig kConfig{.dim = 256,
                                          .ffn_dim = 512,
                                          .layers = 6,
                                          .heads = 2,
                                          .in_channels = 16,
                                          .out_channels = 16,
                                          .text_dim = 64,
                                          .freq_dim = 64};

skyreels::Transformer make_transformer() {
  RandomSource source(5, at::kCPU, at::kBFloat16);
  return {source, kConfig};
}

at::Tensor velocity(const skyreels::Transformer& t, const at::Tensor& latents, const at::Tensor& context) {
  const at::Tensor text = t.text_embed(context),
                   rotations = rope_3d(kFrames, kHeight, kWidth, kConfig.head_width(), at::kCPU);
  const auto time = t.time_embed(at::full({kFrames}, 600.0, at::kDouble), 1);
  const FrameModulation modulation(time.E, std::vector<int64_t>(kFrames, kHeight * kWidth));
  at::Tensor z = t.patch_embed(latents);
  for (int64_t i = 0; i < kConfig.layers; ++i) {
    const auto [k, v] = t.text_kv(i, text);
    z = t.block(
        i, z, modulation, rotations,
        [](const at::Tensor& q, const at::Tensor& key, const at::Tensor& value) { return attend(q, key, value); },
        [&, k = k, v = v](const at::Tensor& q) { return attend(q, k, v); });
  }
  return t.head(z, time.e, kHeight, kWidth);
}

}  // namespace

TEST_CASE("a transformer in fp8 stays close to bfloat16, in half the memory, with its ends untouched") {
  const at::Tensor latents = at::randn({16, kFrames, 2 * kHeight, 2 * kWidth}),
                   context = at::randn({9, 64}, at::kBFloat16);
  skyreels::Transformer plain = make_transformer(), fp8 = make_transformer(), merged = make_transformer();
  CHECK(fp8.to_fp8() == 0);
  merged.merge_projections();
  CHECK(merged.to_fp8() == 0);

  for (int64_t i = 0; i < kConfig.layers; ++i) {
    const bool inner = i > 0 && i + 1 < kConfig.layers;
    const skyreels::Transformer::Block& b = fp8.layer(i);
    for (const Linear* layer :
         {&b.self.q, &b.self.k, &b.self.v, &b.self.o, &b.cross.q, &b.cross.o, &b.ffn_in, &b.ffn_out})
      CHECK(layer->in_fp8() == inner);
    CHECK_FALSE(b.cross.k.in_fp8());
    CHECK_FALSE(b.cross.v.in_fp8());
    CHECK(merged.layer(i).self_qkv.in_fp8() == inner);
    CHECK(merged.layer(i).self.v.in_fp8() == inner);
    CHECK(merged.layer(i).self.v.weight.is_alias_of(merged.layer(i).self_qkv.weight));
  }
  CHECK(fp8.dtype() == at::kBFloat16);
  const int64_t products = 6 * 256 * 256 + 2 * 256 * 512;  // of a block
  const int64_t scales = 4 * (6 * 256 + 512 + 256);
  CHECK(fp8.weight_bytes() == plain.weight_bytes() - (kConfig.layers - 2) * (products - scales));
  CHECK(merged.weight_bytes() == fp8.weight_bytes());

  const at::Tensor want = velocity(plain, latents, context), got = velocity(fp8, latents, context);
  const double error = test::relative_error(got, want);
  INFO("error " << error);
  CHECK(error > 1e-4);
  CHECK(error < 0.15);
  CHECK(at::equal(velocity(merged, latents, context), got));
}
