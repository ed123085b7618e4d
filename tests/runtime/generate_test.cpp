// The loop over windows with small random models: frame counts, histories, ragged windows, repeatability, statistics.
#include "runtime/generate.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include "runtime/policies.h"
#include "tests/catch.h"
#include "tests/runtime/tiny_model.h"

using namespace longtake;

namespace {

struct World : TinyModel {
  std::unique_ptr<WanVae> vae;

  World() {
    InitSource source([](const std::string&) { return true; }, 8);
    vae = std::make_unique<WanVae>(source, make_vae_sizes(4, {1, 2, 4, 4}, 1, {false, true, true}));
  }
};

struct Output {
  at::Tensor frames;
  std::vector<at::Tensor> latents;
  RunStats stats;
};

GenerateSettings settings(int frames, int chunk, History history) {
  GenerateSettings s;
  s.plan = plan_windows({.frames = frames, .window_frames = 41, .overlap_frames = 17, .chunk = chunk});
  s.height = 32;
  s.width = 48;
  s.steps = 8;
  s.ar_step = 2;
  s.history = history;
  s.denoise.prefix_noise = 20;
  return s;
}

Output run(const World& world, GenerateSettings s, const std::string& policy_text, const std::vector<const skyreels::TextKv*>& prompts = {}) {
  const PolicyChoice choice = choose_policy(parse_policy(policy_text), false);
  s.denoise.attention = choice.attention;
  const BackboneFactory make = [&](const WindowGeometry& g) { return world.backbone(g, prompts); };
  const auto probe = make(window_geometry(s, s.plan.windows[0]));
  const StepModel steps{[&](double t) { return probe->step_embedding(t); }, DistanceRule::polynomial, world.config.dim};
  const auto policy = make_policy(choice, flow_timesteps(s.steps, s.shift), steps, 2);
  PhiloxNoise noise(5);
  Output out;
  GenerateHooks hooks;
  hooks.on_latents = [&](int, const at::Tensor& l) { out.latents.push_back(l.clone()); };
  hooks.on_frames = [&](const at::Tensor& f) { out.frames = out.frames.defined() ? at::cat({out.frames, f}, 1) : f.clone(); };
  out.stats = generate(s, make, *world.vae, *policy, noise, at::kCPU, hooks);
  return out;
}

}  // namespace

TEST_CASE("every frame of the plan comes out once, whatever the windows and the history") {
  const World world;
  for (const auto history : {History::reencode, History::carry})
    for (const auto& [frames, chunk] : std::vector<std::pair<int, int>>{{41, 1}, {41, 5}, {65, 1}, {61, 5}, {89, 3}}) {
      INFO("frames " << frames << " chunk " << chunk << " carry " << (history == History::carry));
      const Output out = run(world, settings(frames, chunk, history), "causal");
      CHECK(out.frames.sizes() == at::IntArrayRef({3, frames, 32, 48}));
    }
}

TEST_CASE("a run repeats bit for bit, and another seed does not") {
  const World world;
  const auto s = settings(61, 5, History::reencode);
  const Output a = run(world, s, "motioncache:slow,warmup=1,phase1=1,distance=linear,threshold=0.6"),
               b = run(world, s, "motioncache:slow,warmup=1,phase1=1,distance=linear,threshold=0.6");
  CHECK(at::equal(a.frames, b.frames));
  CHECK(a.stats.total().reused > 0);
  CHECK(a.stats.total().reused == b.stats.total().reused);
}

TEST_CASE("carried history keeps the overlap's latents") {
  const World world;
  const Output out = run(world, settings(61, 5, History::carry), "causal");
  REQUIRE(out.latents.size() == 2);
  CHECK(at::equal(out.latents[1].narrow(1, 0, 5), out.latents[0].narrow(1, out.latents[0].size(1) - 5, 5)));
}

TEST_CASE("given frames come out as they were encoded, with every chunk size and policy") {
  const World world;
  const at::Tensor given = at::randn({3, 1, 32, 48}).clamp(-1, 1);
  const at::Tensor encoded = world.vae->encode(given.unsqueeze(0)).squeeze(0);
  for (const std::string policy : {"none", "causal", "motioncache:slow,warmup=1,phase1=0,distance=linear,threshold=0.6,vote=off,min_ratio=0",
                                   "predict:warmup=1,phase1=1,distance=linear,threshold=0.6"})
    for (const int chunk : {1, 2, 5, 7}) {
      INFO(policy << ", chunk " << chunk);
      GenerateSettings s = settings(33, chunk, History::reencode);
      const Output usual = run(world, s, policy);
      s.plan.request.given_frames = 1;
      s.plan = plan_windows(s.plan.request);
      s.given = given;
      const Output out = run(world, s, policy);
      CHECK(out.frames.size(1) == 33);
      CHECK(at::equal(out.latents[0].narrow(1, 0, 1), encoded));
      CHECK_FALSE(at::equal(out.latents[0].narrow(1, 1, 8), usual.latents[0].narrow(1, 1, 8)));
      for (const auto& [key, count] : out.stats.by_chunk) {
        const auto& [window, c, phase] = key;
        if (c == 0) CHECK(count.reused + count.predicted == 0);
      }
    }
}

TEST_CASE("given frames that are not shown are context: what follows them is decoded behind them") {
  const World world;
  const at::Tensor given = at::randn({3, 9, 32, 48}).clamp(-1, 1);
  for (const auto history : {History::reencode, History::carry}) {
    GenerateSettings s = settings(65, 2, history);
    s.plan.request.given_frames = 9;
    s.plan = plan_windows(s.plan.request);
    s.given = given;
    const Output shown = run(world, s, "causal");
    s.show_given = false;
    const Output hidden = run(world, s, "causal");
    REQUIRE(hidden.frames.size(1) == 56);
    CHECK(at::equal(hidden.latents[0], shown.latents[0]));
    CHECK(at::equal(hidden.frames.narrow(1, 0, 32), shown.frames.narrow(1, 9, 32)));  // of the first window
  }
  // A second window that begins within the context re-encodes the frames that were given, not what the VAE made of them.
  GenerateSettings s = settings(17, 1, History::reencode);
  s.plan = plan_windows({.frames = 17, .window_frames = 13, .overlap_frames = 9, .given_frames = 9, .chunk = 1});
  s.given = given, s.show_given = false;
  const Output out = run(world, s, "causal");
  REQUIRE(out.latents.size() == 2);
  const at::Tensor tail = at::cat({given.narrow(1, 4, 5), out.frames.narrow(1, 0, 4)}, 1);
  CHECK(at::equal(out.latents[1].narrow(1, 0, 3), world.vae->encode(tail.unsqueeze(0)).squeeze(0)));
}

TEST_CASE("a chunk takes the prompt that covers its middle") {
  GenerateSettings s = settings(65, 2, History::reencode);  // windows of 11 latent frames, the second repeats 5
  s.texts = {0, 17, 40};
  const auto texts = [&](int window) {
    std::vector<int> out;
    for (const auto& chunk : window_geometry(s, s.plan.windows[window]).chunks) out.push_back(chunk.text);
    return out;
  };
  // Frames 0-4, 5-12, 13-20 (middle 17: already the second), 21-28, 29-36, 37-40.
  CHECK(texts(0) == std::vector<int>{0, 0, 1, 1, 1, 1});
  // The second window begins with frame 24: 24-28, 29-36, then 37-44 (middle 41), ...
  CHECK(texts(1) == std::vector<int>{1, 1, 2, 2, 2, 2});
  s.texts.clear();
  CHECK(texts(1) == std::vector<int>(6, 0));
}

TEST_CASE("the same prompt for all ranges is the single prompt, bit for bit") {
  const World world;
  for (const std::string policy : {"none", "causal", "motioncache:warmup=1,phase1=0,distance=linear,threshold=0.6,vote=off,min_ratio=0"}) {
    INFO(policy);
    GenerateSettings s = settings(61, 2, History::reencode);
    const Output one = run(world, s, policy);
    s.texts = {0, 10, 13.5, 40};
    const Output same = run(world, s, policy, std::vector<const skyreels::TextKv*>(4, &world.cond));
    CHECK(at::equal(same.frames, one.frames));
    for (size_t w = 0; w < one.latents.size(); ++w) CHECK(at::equal(same.latents[w], one.latents[w]));
    const Output other = run(world, s, policy, {&world.cond, &world.cond, &world.uncond, &world.cond});
    // Chunks before the change cannot tell, where they attend to nothing behind them.
    const bool causal = policy != "none";
    CHECK(at::equal(other.latents[0].narrow(1, 0, 2), one.latents[0].narrow(1, 0, 2)) == causal);
    CHECK_FALSE(at::equal(other.latents[0].narrow(1, 6, 2), one.latents[0].narrow(1, 6, 2)));
  }
}

TEST_CASE("an end picture reaches every chunk of the last window, and is not shown") {
  const World world;
  const at::Tensor end = at::randn({3, 1, 32, 48}).clamp(-1, 1);
  for (const std::string policy : {"none", "causal", "motioncache:warmup=1,phase1=0,distance=linear,threshold=0.6,vote=off,min_ratio=0",
                                   "driftcache:warmup=1,distance=linear,threshold=1,min_ratio=0"})
    for (const auto& [frames, chunk] : std::vector<std::pair<int, int>>{{33, 5}, {53, 2}}) {  // one window; a ragged second one
      INFO(policy << ", frames " << frames << ", chunk " << chunk);
      GenerateSettings s = settings(frames, chunk, History::reencode);
      const Output usual = run(world, s, policy);
      s.plan.request.end_picture = true;
      s.plan = plan_windows(s.plan.request);
      s.end_picture = end;
      const Output out = run(world, s, policy);
      CHECK(out.frames.sizes() == usual.frames.sizes());
      REQUIRE(out.latents.size() == usual.latents.size());
      for (size_t w = 0; w + 1 < out.latents.size(); ++w) CHECK(at::equal(out.latents[w], usual.latents[w]));
      const WindowSpan& last = s.plan.windows.back();
      const int prefix = last.prefix_latents;
      CHECK(out.latents.back().size(1) == last.latent_frames);
      CHECK(at::equal(out.latents.back().narrow(1, 0, prefix), usual.latents.back().narrow(1, 0, prefix)));
      for (const ChunkSpan& span : window_chunks(last, chunk)) {
        const int first = latent_of_chunk(last, span);
        if (first < prefix || first == last.latent_frames) continue;
        CHECK_FALSE(at::equal(out.latents.back().narrow(1, first, span.frames), usual.latents.back().narrow(1, first, span.frames)));
      }
      // Another picture gives another end.
      s.end_picture = end * -1;
      CHECK_FALSE(at::equal(run(world, s, policy).frames, out.frames));
    }
}

TEST_CASE("policies are chosen by name, and slips are explained") {
  CHECK(choose_policy(parse_policy("none"), false).attention == AttentionScheme::window);
  const auto motion = [](const char* text, bool parity = false) {
    return std::get<MotionCacheSettings>(choose_policy(parse_policy(text), parity).settings);
  };
  CHECK(motion("motioncache:fast").threshold > motion("motioncache:slow").threshold);
  CHECK_FALSE(motion("motioncache", true).shared_mask);
  CHECK(motion("motioncache:slow,floor=0.3,vote=off,norm=mean").norm == WeightNorm::mean);
  CHECK_THROWS_WITH(choose_policy(parse_policy("motioncahce"), false), Catch::Matchers::ContainsSubstring("did you mean 'motioncache'"));
  CHECK_THROWS_WITH(choose_policy(parse_policy("motioncache:treshold=1"), false), Catch::Matchers::ContainsSubstring("did you mean 'threshold'"));
  CHECK_THROWS_WITH(choose_policy(parse_policy("motioncache:slow,floor=2"), false), Catch::Matchers::ContainsSubstring("between 0 and 1"));
  CHECK_THROWS_WITH(choose_policy(parse_policy("causal:slow"), false), Catch::Matchers::ContainsSubstring("takes no preset"));
}
