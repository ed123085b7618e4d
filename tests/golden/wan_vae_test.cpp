// The Wan VAE against the reference program's inputs and outputs on small random models.
#include <ATen/core/grad_mode.h>

#include "models/wan_vae/wan_vae.h"
#include "tests/golden/golden.h"

using namespace longtake;

TEST_CASE("Wan VAE agrees with the reference", "[golden]") {
  const auto root = golden::skyreels();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  at::NoGradGuard no_grad;
  constexpr double kTolerance = 1e-4;
  for (const std::string set : {"a", "b"}) {
    CheckpointSource source = golden::float32_source(root / set / "vae.safetensors");
    const WanVae vae(source);
    CHECK(source.unused().empty());
    const Checkpoint io = Checkpoint::open(root / set / "vae_io.safetensors");
    const auto check = [&](const std::string& name, const at::Tensor& value) {
      CHECK(golden::within("wan_vae " + set + " " + name, value, io.tensor(name), kTolerance));
    };
    check("latent", vae.encode(io.tensor("video")));
    check("recon", vae.decode(io.tensor("latent")));
    check("recon2", vae.decode(io.tensor("z2")));
    check("image_latent", vae.encode(io.tensor("image")));
  }
}
