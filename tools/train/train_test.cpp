// The constructed encoder, the trainer's forward pass and the tokenizer against what generation runs.
#include "tools/train/moments.h"

#include <set>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include "models/demo/clips.h"
#include "models/magi/backbone.h"
#include "models/magi/text_rows.h"
#include "models/skyreels/backbone.h"
#include "models/wan_vae/wan_vae.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/names.h"
#include "models/weights/safetensors.h"
#include "runtime/magi_engine.h"
#include "runtime/magi_schedule.h"
#include "tests/catch.h"
#include "tools/train/dit_forward.h"
#include "tools/train/magi_batch.h"
#include "tools/train/magi_export.h"
#include "tools/train/magi_forward.h"
#include "tools/train/magi_plan.h"
#include "tools/train/magi_stage.h"
#include "tools/train/noise_plan.h"
#include "tools/train/parameters.h"
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

namespace {

const std::filesystem::path kDemo = std::filesystem::path(LONGTAKE_SOURCE_DIR) / "share" / "models" / "demo";

CheckpointSource demo_vae() {
  Checkpoint file = Checkpoint::open(kDemo / "vae" / "diffusion_pytorch_model.safetensors");
  auto translate = vae_translator(file);
  return {std::move(file), std::move(translate), at::kCPU, at::kFloat};
}

// Every tensor counts: gains, biases and the head begin at 0.
std::map<std::string, at::Tensor> magi_weights(const magi::ModelConfig& config) {
  InitSource init([](const std::string&) { return false; }, 5);
  magi::Transformer(init, config, false);
  std::map<std::string, at::Tensor> out = init.parameters();
  for (auto& [name, tensor] : out)
    if (name != "rope.bands") tensor.add_(at::randn(tensor.sizes()) * 0.1);
  return out;
}

}  // namespace

TEST_CASE("The constructed encoder is found again in the demo model's VAE") {
  at::NoGradGuard no_grad;
  CheckpointSource source = demo_vae(), again = demo_vae();
  const MomentEncoder encoder = MomentEncoder::of(source);
  const WanVae vae(again);
  const at::Tensor video = at::rand({1, 3, 9, 32, 48}) * 2 - 1, expected = vae.encode(video);
  const double scale = expected.abs().max().item<double>();
  CHECK(scale > 0.1);
  CHECK((encoder.encode(video) - expected).abs().max().item<double>() < 2e-3 * scale);
}

TEST_CASE("MAGI-1: training's forward pass equals the backbone's") {
  at::NoGradGuard no_grad;
  const magi::ModelConfig config = demo_magi_config(128, 2);
  const auto weights = magi_weights(config);
  const at::Tensor latents = at::randn({2, 16, 18, 4, 6});
  const at::Tensor captions = at::randn({2, 9, config.caption_dim});
  const std::vector<int64_t> lengths{9, 4};
  for (const bool distilled : {false, true}) {
    StepSource source(weights, at::kFloat);
    const magi::Transformer model(source, config, distilled);
    const std::vector<double> times{0.9999, 0.4, 0.05};
    // A finished chunk, and two in flight that see it.
    MagiWindows windows{latents, at::tensor(times, at::kFloat).repeat({2, 1}), {}, at::tensor({0, 0, 0}, at::kLong).repeat({2, 1}),
                        at::tensor({0, 1, 1, 0, 2, 2}, at::kLong).view({2, 3}), {0, 0, 0}};
    if (distilled) windows.step_sizes = at::tensor({8, 8, 8}, at::kFloat).repeat({2, 1});
    const at::Tensor found = predict(model, windows, captions, lengths);
    const magi::TextKv none = magi::prepare_text(model, magi::null_rows(model.null_caption(), {}, {}));
    for (int b = 0; b < 2; ++b) {
      const magi::TextKv text = magi::prepare_text(model, captions[b].narrow(0, 0, lengths[b]));
      WindowGeometry geometry;
      geometry.chunks = {{0, 6}, {6, 6}, {12, 6}};
      geometry.latent_height = 4, geometry.latent_width = 6;
      const magi::MagiBackbone backbone(model, {{{&text, &text, &text}, false, 0}}, none, geometry);
      KvCache cache(backbone.kv_shape(), at::kFloat, at::kCPU);
      std::vector<WorkItem> items;
      std::vector<at::Tensor> inputs;
      const int64_t chunk = 6 * 6;
      for (int c = 0; c < 3; ++c) {
        items.push_back({.chunk = c, .timesteps = std::vector<double>(6, times[c]), .keys = {0, (c + 1) * chunk}, .finished = c == 0,
                         .step_size = distilled ? 8.0 : 0.0});
        inputs.push_back(backbone.embed(latents[b].narrow(1, 6 * c, 6)));
      }
      const auto hidden = backbone.forward(items, inputs, cache);
      for (int c = 0; c < 3; ++c) {
        const at::Tensor expected = backbone.head(hidden[c], items[c].timesteps);
        const double scale = expected.abs().max().item<double>();
        CHECK(scale > 0.1);
        CHECK((found[b].narrow(1, 6 * c, 6) - expected).abs().max().item<double>() < 1e-5 * scale);
      }
    }
  }
}

TEST_CASE("MAGI-1: windows in training are those of the schedule") {
  // What is in flight together, and how many chunks each of them sees, in all rows of videos of up to nine chunks.
  using Signature = std::vector<std::pair<int, int>>;
  const magi::ScheduleSettings settings{.steps = 32, .window = 4, .key_chunks = {5, 4, 3, 2}};
  std::set<Signature> known;
  for (int given = 0; given <= 4; ++given)
    for (int chunks = given + 1; chunks <= 9; ++chunks)
      for (const magi::Row& row : magi::rows(settings, {chunks, given, 6 * given, 6})) {
        Signature signature;
        for (const magi::ChunkStep& c : row.chunks)
          if (c.step < settings.steps) signature.emplace_back(c.step / 8, static_cast<int>(c.keys.end - c.keys.begin));
        known.insert(signature);
      }
  demo::Random random(6);
  std::set<Signature> drawn;
  for (int i = 0; i < 2000; ++i) {
    const int chunks = 1 + random.below(5);
    const MagiStructure s = draw_structure(chunks, false, random);
    CHECK(s.chunks() == chunks);
    Signature signature;
    for (int c = s.history; c < chunks; ++c) signature.emplace_back(s.quarters[c - s.history], c + 1 - s.first_keys[c]);
    const std::vector<double> shares = draw_shares(s, random);
    for (size_t c = 0; c < shares.size(); ++c) CHECK(std::abs(shares[c] - (s.quarters[c] + 0.5) / 4) < 0.15);
    if (s.alone) continue;
    CHECK(known.contains(signature));
    drawn.insert(signature);
  }
  CHECK(drawn.size() > 20);
  const std::vector<float> grid = magi::time_grid(settings);
  for (int i = 0; i <= 32; ++i) CHECK(magi_time(i / 32.0) == Approx(grid[i]).margin(1e-6));
}

TEST_CASE("MAGI-1: the loss on one batch falls, and the branches of guidance are the schedule's") {
  CheckpointSource vae = demo_vae();
  const LatentPool pool(MomentEncoder::of(vae), 2, 48, 7, at::kCPU, 1);
  demo::Random random(8);
  const MagiBatch batch = [&] {
    for (;;) {
      MagiBatch b = draw_magi_batch({.batch_chunks = 3, .drop_text = 0}, 3, pool, random);
      if (b.structure.history == 1) return b;
    }
  }();
  CHECK(batch.weight.narrow(2, 0, 6).abs().max().item<double>() == 0);
  CHECK(batch.weight.narrow(2, 6, 12).min().item<double>() == 1);
  CHECK(batch.windows.text.equal(at::tensor({0, 1, 1}, at::kLong).view({1, 3})));
  const MagiBranches branches = guidance_windows(batch);
  CHECK(branches.text.text.equal(at::tensor({0, 1, 1}, at::kLong).view({1, 3})));
  CHECK(branches.text.null_text.equal(at::tensor({1, 0, 0}, at::kLong).view({1, 3})));
  CHECK(branches.null_text.null_text.min().item<int64_t>() == 1);
  CHECK(branches.alone.first_keys == std::vector<int>{0, 1, 2});

  const magi::ModelConfig config = demo_magi_config(128, 2);
  Parameters parameters(magi_weights(config), 0.9);
  const at::Tensor captions = at::randn({1, 12, config.caption_dim});
  double first = 0, last = 0;
  for (int i = 0; i < 12; ++i) {
    StepSource source(parameters.tensors(), at::kFloat);
    const at::Tensor velocity = predict(magi::Transformer(source, config, false), batch.windows, captions, {12});
    const at::Tensor loss = ((velocity - batch.velocity).square() * batch.weight).sum() / batch.weight.sum() / (16 * 256);
    loss.backward();
    parameters.step(3e-3);
    (i == 0 ? first : last) = loss.item<double>();
  }
  CHECK(last < 0.8 * first);
}

TEST_CASE("MAGI-1: distilled models learn step sizes, copies of nearly clean chunks, and finished chunks that know the caption") {
  CheckpointSource vae = demo_vae();
  const LatentPool pool(MomentEncoder::of(vae), 1, 48, 7, at::kCPU, 1);
  demo::Random random(9);
  int copies = 0, dirty = 0;
  for (int i = 0; i < 200; ++i) {
    const MagiBatch b = draw_magi_batch({.distilled = true, .batch_chunks = 2}, 1 + i % 2, pool, random);
    const at::Tensor dt = b.windows.step_sizes;
    CHECK((dt.eq(4) | dt.eq(8) | dt.eq(16) | dt.eq(32)).all().item<bool>());
    CHECK(b.windows.null_text.max().item<int64_t>() == 0);
    if (b.structure.alone) {
      ++copies;
      CHECK(b.structure.quarters == std::vector<int>{3});
      CHECK(b.windows.text.min().item<int64_t>() == 1);
    }
    if (b.structure.history == 1) {
      dirty += !b.structure.clean_history;
      CHECK((b.windows.text[0][0].item<int64_t>() == 0) == b.structure.clean_history);
      CHECK((b.windows.times[0][0].item<double>() > 0.99) == b.structure.clean_history);
    }
  }
  CHECK(copies > 5);
  CHECK(dirty > 2);
}

TEST_CASE("MAGI-1: what training leaves becomes a folder that runs") {
  const auto folder = std::filesystem::temp_directory_path() / "longtake_magi_export";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const magi::ModelConfig config = demo_magi_config(128, 1);
  for (const bool distilled : {false, true}) {
    save_safetensors(folder / (distilled ? "magi-distill.safetensors" : "magi.safetensors"), magi_weights(config));
    for (const bool copied : {true, false}) {
      const auto place = folder / (copied ? "copied" : "shared");
      export_magi({folder, distilled, copied ? kDemo : std::filesystem::path(), place, copied ? "" : "../copied", {}, 32});
      CHECK(std::filesystem::exists(place / "vae") == copied);
      const ResolvedModel model = resolve_model(place.string(), default_search());
      OptionSet options;
      options.apply_recipe(model.recipe.defaults);
      CHECK(options.values().frames == 93);
      options.set("prompt=a red circle"), options.set("seed=1"), options.set("video.frames=21"), options.set("sampling.steps=4");
      const MagiRequest request = make_magi_request(model.recipe, options.values());
      const c10::InferenceMode inference;
      MagiEngine engine(model, {at::kCPU, at::kFloat}, {});
      engine.encode(request.prompts);
      int64_t frames = 0;
      GenerateHooks hooks;
      hooks.on_frames = [&](const at::Tensor& x) {
        frames += x.size(1);
        CHECK(at::isfinite(x).all().item<bool>());
      };
      engine.run(request, hooks);
      CHECK(frames == 21);
      CHECK(engine.transformer().distilled() == distilled);
      CHECK(engine.transformer().weight_bytes() > 3 * model.recipe.architecture.transformer_parameters);
    }
  }
  std::filesystem::remove_all(folder);
}
