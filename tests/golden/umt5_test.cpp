// The UMT5 encoder against the reference program's inputs and outputs on small random models.
#include <ATen/core/grad_mode.h>

#include "models/umt5/encoder.h"
#include "tests/golden/golden.h"

using namespace longtake;

TEST_CASE("UMT5 agrees with the reference", "[golden]") {
  const auto root = golden::skyreels();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  at::NoGradGuard no_grad;
  // What the pip package transformers (4.57) itself loses in bfloat16 on these weights: 0.12 on a, 0.11 on b.
  constexpr double kBfloat16 = 0.11;
  std::vector<golden::Target> targets = golden::targets();
  targets.push_back({at::kCPU, at::kBFloat16});
  for (const golden::Target& target : targets)
    for (const std::string set : {"a", "b"}) {
      CheckpointSource source = golden::source_of(root / set / "umt5.safetensors", target);
      const Umt5Encoder encoder(source);
      CHECK(source.unused().empty());
      const Checkpoint io = Checkpoint::open(root / set / "umt5_io.safetensors");
      const at::Tensor out = encoder.encode(io.tensor("ids").to(target.device), io.tensor("mask").to(target.device));
      CHECK(golden::within("umt5 " + set + target.name(), out, io.tensor("out"), target.tolerance(1e-4, kBfloat16)));
    }
}
