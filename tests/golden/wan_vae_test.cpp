// The Wan VAE against the reference program's inputs and outputs on small random models.
#include <ATen/core/grad_mode.h>

#include "models/wan_vae/wan_vae.h"
#include "tests/golden/golden.h"

using namespace longtake;

TEST_CASE("Wan VAE agrees with the reference", "[golden]") {
  const auto root = golden::skyreels();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  at::NoGradGuard no_grad;
  for (const golden::Target& target : golden::targets())
    for (const std::string set : {"a", "b"}) {
      if (target.dtype != at::kFloat) continue;  // as the reference runs it; how near bfloat16 comes to that is in tests/models/wan_vae_test.cpp
      CheckpointSource source = golden::source_of(root / set / "vae.safetensors", target);
      const WanVae vae(source);
      CHECK(source.unused().empty());
      const Checkpoint io = Checkpoint::open(root / set / "vae_io.safetensors");
      const auto check = [&](const std::string& name, const at::Tensor& value) {
        CHECK(golden::within("wan_vae " + set + " " + name + target.name(), value, io.tensor(name), 1e-4));
      };
      check("latent", vae.encode(io.tensor("video").to(target.device)));
      check("recon", vae.decode(io.tensor("latent").to(target.device)));
      check("recon2", vae.decode(io.tensor("z2").to(target.device)));
      check("image_latent", vae.encode(io.tensor("image").to(target.device)));
    }
}
