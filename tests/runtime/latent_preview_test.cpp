// Pictures straight from latents, against what the demo model's VAE decodes.
#include "runtime/latent_preview.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/repeat_interleave.h>
#include <ATen/ops/zeros.h>

#include "models/demo/clips.h"
#include "runtime/model.h"
#include "tests/catch.h"

using namespace longtake;

TEST_CASE("a latent's colour is the mean of its frames and pixels") {
  at::Tensor frames = at::zeros({3, 5, 16, 8});
  frames.select(1, 0).fill_(0.5);
  frames[0][2].narrow(0, 8, 8).fill_(1);  // one of four frames, the lower half
  const at::Tensor colours = latent_colours(frames);
  REQUIRE(colours.sizes() == at::IntArrayRef({3, 2, 2, 1}));
  CHECK(colours[1][0][0][0].item<float>() == 0.5f);
  CHECK(colours[0][1][0][0].item<float>() == 0.0f);
  CHECK(colours[0][1][1][0].item<float>() == 0.25f);
}

TEST_CASE("a VAE that codes four frames at a time is fitted too") {
  const auto encode = [](const at::Tensor& frames) { return latent_colours(frames, /*first_alone=*/false) * 2 + 1; };
  const auto decode = [](const at::Tensor& latents) {
    return ((latents - 1) / 2).repeat_interleave(4, 1).repeat_interleave(8, 2).repeat_interleave(8, 3);
  };
  CHECK(encode(at::zeros({3, 8, 16, 8})).sizes() == at::IntArrayRef({3, 2, 2, 1}));
  const LatentPreview preview(encode, decode, /*first_alone=*/false);
  const at::Tensor colours = at::linspace(-1, 1, 3 * 2 * 4 * 4).view({3, 2, 4, 4});
  CHECK((preview.colours(colours * 2 + 1) - colours).abs().max().item<double>() < 0.02);
}

TEST_CASE("previews of the demo model look like its videos") {
  const auto model = resolve_model("demo", default_search());
  const WanVae vae = load_vae(model.require_files(), {});
  const LatentPreview preview(vae);
  demo::Random random(3);
  const at::Tensor clip = demo::Clip(demo::random_training_scene(random), demo::Start::beginning, 3).frames(0, 17);
  const at::Tensor latents = vae.encode(clip.unsqueeze(0)).squeeze(0);
  const at::Tensor wanted = latent_colours(vae.decode(latents.unsqueeze(0)).squeeze(0)), found = preview.colours(latents);
  const double error = (wanted - found).pow(2).mean().item<double>();
  const double variance = (wanted - wanted.mean()).pow(2).mean().item<double>();
  WARN("share of the variance that previews explain: " << 1 - error / variance);
  CHECK(1 - error / variance > 0.7);
  const int64_t side = clip.size(2) / 8 * 4;
  CHECK(preview.picture(latents).sizes() == at::IntArrayRef({side, 5 * side, 3}));
}
