// The VAE's precision in whole runs, and frames that are decoded beside denoising: on a GPU on a stream of their own.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/ScalarType.h>
#include <fmt/format.h>

#include <cmath>

#include "models/demo/clips.h"
#include "runtime/engine.h"
#include "tests/catch.h"
#include "tests/devices.h"

using namespace longtake;

namespace {

double psnr(const at::Tensor& a, const at::Tensor& b) {
  const double error = (a.to(at::kFloat) - b.to(at::kFloat)).pow(2).mean().item<double>();
  return 10 * std::log10(4 / error);  // of values in [-1, 1]
}

RunRequest request_of(const std::vector<std::string>& set) {
  OptionSet options;
  options.apply_recipe(resolve_model("demo", default_search()).recipe.defaults);
  options.set("prompt=a red circle moves up over grass"), options.set("seed=3");
  for (const std::string& assignment : set) options.set(assignment);
  return make_request(options.values());
}

at::Tensor frames_of(Engine& engine, const RunRequest& request) {
  engine.encode(request.all_texts());
  std::vector<at::Tensor> frames;
  GenerateHooks hooks;
  hooks.on_frames = [&](const at::Tensor& x) { frames.push_back(x.cpu()); };
  engine.run(request, hooks);
  return at::cat(frames, 1);
}

}  // namespace

TEST_CASE("the demo model's VAE draws in bfloat16 what it draws in float32, to 40 dB") {
  const c10::InferenceMode inference;
  const ModelFiles files = resolve_model("demo", default_search()).require_files();
  for (const at::Device& device : test_devices()) {
    const WanVae single = load_vae(files, {.device = device}), half = load_vae(files, {.device = device, .vae_dtype = at::kBFloat16});
    CHECK(half.dtype() == at::kBFloat16);
    const at::Tensor clip = demo::Clip({}, demo::Start::beginning, 1).frames(0, 17).unsqueeze(0).to(device);
    const at::Tensor latents = single.encode(clip), frames = single.decode(latents);
    const double decoded = psnr(half.decode(latents), frames), both = psnr(half.decode(half.encode(clip)), frames);
    fmt::print("VAE in bfloat16 against float32 on {}: decoded {:.1f} dB, encoded too {:.1f} dB\n", device.str(), decoded, both);
    CHECK(decoded > 40);
    CHECK(both > 40);
    CHECK(std::isfinite(decoded));  // it does compute in another precision
  }
}

TEST_CASE("frames decoded beside denoising are those decoded behind it, bit for bit, run after run") {
  const c10::InferenceMode inference;
  const ResolvedModel demo = resolve_model("demo", default_search());
  for (const at::Device& device : test_devices())
    for (const auto vae_dtype : test_dtypes())
      for (const std::string history : {"reencode", "carry"}) {
        INFO(device.str() << ", " << c10::toString(vae_dtype) << ", " << history);
        Engine engine(demo, {.device = device, .vae_dtype = vae_dtype});
        // Two windows; with 2 latents at once and chunks of 3 the decoder keeps some of a chunk until the next one.
        RunRequest request = request_of({"policy=causal", "video.size=64x96", "video.frames=49", "sampling.window=33", "sampling.overlap=17",
                                         "sampling.chunk=3", "sampling.steps=4", "sampling.ar_step=1", "run.decode_latents=2",
                                         "sampling.history=" + history});
        REQUIRE(request.settings.plan.windows.size() == 2);
        const at::Tensor behind = frames_of(engine, request);
        CHECK(behind.size(1) == 49);
        request.settings.decode_ahead = true;
        for (int i = 0; i < 3; ++i) CHECK(at::equal(frames_of(engine, request), behind));
      }
}

TEST_CASE("the VAE's precision is Wan's own, or MAGI-1's that of the weights, unless it is said") {
  GenerateOptions o;
  o.device = "cpu", o.dtype = "bf16";
  CHECK(model_target(o).wan_vae_dtype() == at::kFloat);
  CHECK(model_target(o).magi_vae_dtype() == at::kBFloat16);
  o.vae_dtype = "bf16", o.dtype = "fp32";
  CHECK(model_target(o).wan_vae_dtype() == at::kBFloat16);
  CHECK(model_target(o).magi_vae_dtype() == at::kBFloat16);
  o.vae_dtype = "fp32", o.dtype = "bf16";
  CHECK(model_target(o).magi_vae_dtype() == at::kFloat);
}
