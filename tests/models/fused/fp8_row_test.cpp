// The fused row with products in fp8, against the same row in bfloat16, on every device that has them.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/randn.h>

#include "base/cuda.h"
#include "models/skyreels/backbone.h"
#include "models/weights/random_source.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"

using namespace longtake;

namespace {

const skyreels::TransformerConfig kConfig{.dim = 256,
                                          .ffn_dim = 1024,
                                          .layers = 5,
                                          .heads = 2,
                                          .in_channels = 16,
                                          .out_channels = 16,
                                          .text_dim = 64,
                                          .freq_dim = 64};
constexpr int64_t kPlane = 12;

at::Tensor row_of(const skyreels::Transformer& transformer, const at::Tensor& context,
                  const std::vector<at::Tensor>& latents) {
  const skyreels::TextKv text = skyreels::prepare_text(transformer, context);
  const skyreels::SkyReelsBackbone backbone(transformer, {&text, &text}, {{{0, 2}, {2, 2}}, 8, 6}, 1);
  KvCache kv(backbone.kv_shape(), at::kBFloat16, transformer.device());
  std::vector<WorkItem> items;
  std::vector<at::Tensor> inputs;
  for (int branch = 0; branch < 2; ++branch)
    for (int chunk = 0; chunk < 2; ++chunk) {
      items.push_back(
          {chunk, branch, TokenSet::all(), {700.0 - 50 * chunk, 700.0 - 50 * chunk}, {0, 2 * kPlane * (chunk + 1)}});
      inputs.push_back(backbone.embed(latents[chunk]));
    }
  return at::cat(backbone.forward(items, inputs, kv));
}

}  // namespace

TEST_CASE("a fused row in fp8 is as close to bfloat16 as the plain path in fp8") {
  for (const at::Device& device : test_devices()) {
    if (device.is_cuda() && cuda::capability(at::empty({0}, at::TensorOptions().device(device))) < 89) continue;
    INFO(device.str());
    const auto make = [&](bool merged, bool fp8) {
      RandomSource source(3, device, at::kBFloat16);
      skyreels::Transformer transformer(source, kConfig);
      if (merged) transformer.merge_projections();
      if (fp8) CHECK(transformer.to_fp8() == 0);
      return transformer;
    };
    const at::Tensor context = at::randn({9, 64}).to(device, at::kBFloat16);
    const std::vector<at::Tensor> latents{at::randn({16, 2, 8, 6}).to(device), at::randn({16, 2, 8, 6}).to(device)};
    const at::Tensor want = row_of(make(true, false), context, latents);
    const at::Tensor fused = row_of(make(true, true), context, latents),
                     plain = row_of(make(false, true), context, latents);
    REQUIRE(at::isfinite(fused).all().item<bool>());
    const double error = test::relative_error(fused, want), plain_error = test::relative_error(plain, want);
    INFO("fused " << error << ", plain " << plain_error);
    CHECK(error > 1e-3);
    CHECK(error < 0.15);
    CHECK(error < 1.5 * plain_error);
  }
}
