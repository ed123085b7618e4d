// The constructed encoder, the trainer's forward pass and the tokenizer against what generation runs.
#include "tools/train/moments.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include "models/demo/clips.h"
#include "models/skyreels/backbone.h"
#include "models/wan_vae/wan_vae.h"
#include "models/weights/checkpoint_source.h"
#include "tests/catch.h"
#include "tools/train/dit_forward.h"
#include "tools/train/noise_plan.h"
#include "tools/train/prompts.h"
#include "tools/train/tokenizer.h"

using namespace longtake;
using namespace longtake::train;

TEST_CASE("The Wan encoder with constructed weights computes the moments") {
  at::NoGradGuard no_grad;
  const MomentEncoder encoder(1);
  InitSource init([](const std::string&) { return true; }, 2);
  const VaeSizes sizes = demo_vae_sizes();
  for (const auto& [name, shape] : list_vae_weights(sizes)) init.take(name, shape);
  auto parameters = init.parameters();
  encoder.install(parameters);
  const WanVae vae(init, sizes);
  const at::Tensor video = at::rand({1, 3, 9, 32, 48}) * 2 - 1;
  const at::Tensor expected = encoder.encode(video), found = vae.encode(video);
  const double scale = expected.abs().max().item<double>();
  CHECK(scale > 0.1);
  CHECK((found - expected).abs().max().item<double>() < 2e-3 * scale);
}

TEST_CASE("Training's forward pass equals the backbone with its K/V cache") {
  at::NoGradGuard no_grad;
  InitSource init([](const std::string& name) { return !name.starts_with("fps_") && name.find("k_img") == std::string::npos; }, 3);
  const auto config = demo_transformer(128, 2, 32);
  const skyreels::Transformer model(init, config);
  // The head starts at zero, which would hide every difference.
  init.parameters().at("head.head.weight").normal_(0, 0.1);
  const at::Tensor latents = at::randn({16, 10, 8, 8}), context = at::randn({64, 32});
  const skyreels::TextKv text = skyreels::prepare_text(model, context);
  WindowGeometry geometry;
  geometry.chunks = {{0, 5}, {5, 5}};
  geometry.latent_height = geometry.latent_width = 8;
  const skyreels::SkyReelsBackbone backbone(model, {&text}, geometry, 0);
  const std::vector<double> first(5, 20), second(5, 700);
  const int64_t chunk = 5 * 16;
  for (const bool causal : {true, false}) {
    KvCache cache(backbone.kv_shape(), at::kFloat, at::kCPU);
    const std::vector<WorkItem> items{{0, 0, TokenSet::all(), first, {0, causal ? chunk : 2 * chunk}},
                                      {1, 0, TokenSet::all(), second, {0, 2 * chunk}}};
    const std::vector<at::Tensor> inputs{backbone.embed(latents.narrow(1, 0, 5)), backbone.embed(latents.narrow(1, 5, 5))};
    const auto hidden = backbone.forward(items, inputs, cache);
    const at::Tensor expected = at::cat({backbone.head(hidden[0], first), backbone.head(hidden[1], second)}, 1);
    std::vector<double> timesteps = first;
    timesteps.insert(timesteps.end(), second.begin(), second.end());
    const at::Tensor t = at::tensor(timesteps, at::TensorOptions().dtype(at::kDouble)).unsqueeze(0).repeat({2, 1});
    const at::Tensor found = predict(model, at::stack({latents, latents}), t, at::stack({context, context}), causal);
    const double scale = expected.abs().max().item<double>();
    CHECK(scale > 0.1);
    for (int b = 0; b < 2; ++b) CHECK((found[b] - expected).abs().max().item<double>() < 1e-4 * scale);
  }
}

TEST_CASE("Every caption is whole words of the vocabulary") {
  const auto path = std::filesystem::temp_directory_path() / "longtake_demo_spiece.model";
  write_tokenizer(path);
  const Prompts prompts(path);
  const auto vocabulary = demo_vocabulary();
  for (int style = 0; style < demo::kCaptionStyles; ++style) {
    const demo::Scene scene{demo::Shape::cross, demo::Colour::orange, demo::Size::small, demo::Motion::circular, demo::Background::brick};
    const auto ids = prompts.ids(demo::caption(scene, style));
    CHECK(ids.size() < 24);
    CHECK(ids.back() == 1);
    std::string text;
    for (const int64_t id : ids) {
      CHECK(id != 3);
      text += vocabulary.at(static_cast<size_t>(id));
    }
    CHECK(text.find("orange") != std::string::npos);
  }
  CHECK(prompts.ids("") == std::vector<int64_t>{1});
  std::filesystem::remove(path);
}

TEST_CASE("Noise plans look like schedules of generation") {
  demo::Random random(4);
  int given = 0, idle = 0;
  for (int i = 0; i < 400; ++i) {
    const NoisePlan plan = plan_noise(5, true, {}, random);
    bool any = false;
    for (int c = 0; c < 5; ++c) {
      CHECK((plan.sigma[c] >= 0 && plan.sigma[c] < 1));
      CHECK(plan.timestep[c] == std::floor(1000 * plan.sigma[c]));
      any = any || plan.learn[c];
      idle += c > 0 && !plan.learn[c];
    }
    CHECK(any);
    given += plan.start == demo::Start::anywhere;
  }
  CHECK(given > 60);
  CHECK(idle > 20);
}
