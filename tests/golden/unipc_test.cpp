// The solver against the reference: same grid, and the same samples after every step.
#include "runtime/unipc.h"

#include <ATen/ops/stack.h>

#include "tests/golden/golden.h"

TEST_CASE("flow UniPC follows the reference", "[golden]") {
  const std::string set = GENERATE("a", "b");
  const auto root = longtake::golden::skyreels();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  const auto file = longtake::Checkpoint::open(root / set / "unipc.safetensors");
  for (const auto& [steps, shift] : {std::pair{10, 3}, {30, 5}, {50, 8}}) {
    const std::string prefix = fmt::format("s{}_shift{}_", steps, shift);
    const longtake::UniPc solver(steps, shift);

    const at::Tensor timesteps = file.tensor(prefix + "timesteps");
    const at::Tensor sigmas = file.tensor(prefix + "sigmas");
    REQUIRE(timesteps.size(0) == steps);
    REQUIRE(sigmas.size(0) == steps + 1);
    for (int k = 0; k < steps; ++k) CHECK(timesteps[k].item<int64_t>() == solver.timesteps()[k]);
    for (int k = 0; k <= steps; ++k) CHECK(sigmas[k].item<float>() == solver.sigmas()[k]);

    const at::Tensor outputs = file.tensor(prefix + "model_outputs"), samples = file.tensor(prefix + "samples");
    longtake::UniPcState state;
    at::Tensor x = file.tensor(prefix + "x0");
    std::vector<at::Tensor> ours;
    for (int k = 0; k < steps; ++k) {
      x = solver.step(state, outputs[k], x);
      ours.push_back(x);
      INFO("step " << k);
      CHECK(longtake::golden::relative_error(x, samples[k]) <= 1e-6);
    }
    CHECK(longtake::golden::within(set + " " + prefix + "samples", at::stack(ours), samples, 1e-6));
  }
}
