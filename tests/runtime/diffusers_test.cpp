// The demo model's folder means the same to the pip package diffusers (0.36.0): one window from given latents.
// tests/data/diffusers/make_demo_window.py made the reference; LONGTAKE_DIFFUSERS_WINDOW may name another such file.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <fmt/core.h>

#include <cstdlib>

#include "models/skyreels/backbone.h"
#include "models/weights/checkpoint.h"
#include "runtime/generate.h"
#include "runtime/model.h"
#include "tests/catch.h"

using namespace longtake;

namespace {

class GivenNoise final : public NoiseSource {
 public:
  explicit GivenNoise(at::Tensor latents) : latents_(std::move(latents)) {}
  at::Tensor latents(int, at::IntArrayRef) override { return latents_.clone(); }
  at::Tensor prefix(int, int, at::IntArrayRef shape) override { return latents_.new_zeros(shape); }

 private:
  at::Tensor latents_;
};

double relative_error(const at::Tensor& value, const at::Tensor& reference) {
  return ((value - reference).abs().max() / reference.abs().max()).item<double>();
}

}  // namespace

TEST_CASE("one window of the demo model agrees with diffusers") {
  at::NoGradGuard no_grad;
  const char* named = std::getenv("LONGTAKE_DIFFUSERS_WINDOW");
  const Checkpoint reference =
      Checkpoint::open(named ? named : LONGTAKE_SOURCE_DIR "/tests/data/diffusers/demo_window.safetensors");
  const ModelFiles files = *resolve_model(LONGTAKE_SOURCE_DIR "/share/models/demo", default_search()).files;
  const ModelTarget target;
  const auto texts = encode_texts(files, {reference.metadata().at("prompt"), ""}, 64, target);
  const auto agree = [](const std::string& name, const at::Tensor& value, const at::Tensor& wanted, double tolerance) {
    const double error = relative_error(value, wanted.to(at::kFloat));
    fmt::print("  diffusers {}: error {:.2e}, tolerance {:.0e} ({:.1f} % used)\n", name, error, tolerance, 100 * error / tolerance);
    CHECK(error <= tolerance);
  };
  agree("context", texts[0].context, reference.tensor("context"), 1e-4);
  agree("negative context", texts[1].context, reference.tensor("negative_context"), 1e-4);

  const skyreels::Transformer transformer = load_transformer(files, target);
  const WanVae vae = load_vae(files, target);
  const skyreels::TextKv cond = skyreels::prepare_text(transformer, texts[0].context),
                         uncond = skyreels::prepare_text(transformer, texts[1].context);
  const BackboneFactory make = [&](const WindowGeometry& g) {
    return std::make_unique<skyreels::SkyReelsBackbone>(transformer, std::vector<const skyreels::TextKv*>{&cond, &uncond}, g, 0);
  };
  const at::Tensor initial = reference.tensor("initial");
  for (const std::string name : {"sync", "async"}) {
    GenerateSettings settings;
    settings.plan = plan_windows({.frames = static_cast<int>(4 * initial.size(1) - 3), .window_frames = 97, .overlap_frames = 17, .chunk = name == "async" ? 1 : 5});
    settings.height = settings.width = 128;
    settings.steps = std::stoi(reference.metadata().at("steps"));
    settings.shift = 5;
    settings.ar_step = name == "async" ? 2 : 0;
    settings.denoise.attention = AttentionScheme::window;
    settings.denoise.guidance = 6;
    settings.denoise.overwritten_first_sample = true;
    GivenNoise noise(initial);
    RecomputeAll policy(2);
    GenerateHooks hooks;
    at::Tensor latents, frames;
    hooks.on_latents = [&](int, const at::Tensor& x) { latents = x.clone(); };
    hooks.on_frames = [&](const at::Tensor& x) { frames = x.clone(); };
    generate(settings, make, vae, policy, noise, at::kCPU, hooks);
    agree(name + " latents", latents, reference.tensor(name), 2e-3);
    if (reference.contains(name + "_last_frame"))
      agree(name + " last frame", frames.select(1, -1).clamp(-1, 1), reference.tensor(name + "_last_frame"), 5e-3);
  }
}
