// MAGI-1 models opened from folders in the reference's layout, and at random: whole runs on the CPU.
#include "runtime/magi_engine.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <c10/core/InferenceMode.h>

#include "runtime/magi_recipe.h"
#include "runtime/magi_report.h"
#include "tests/catch.h"
#include "tests/models/magi_folder.h"
#include "tests/refused.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using test::MagiFolder;

namespace {

const ModelTarget kCpu{at::kCPU, at::kFloat};

ResolvedModel opened(const MagiFolder& folder) { return resolve_model(folder.path().string(), default_search()); }

MagiRequest request_of(const ResolvedModel& model, const std::vector<std::string>& set = {}) {
  OptionSet options;
  options.apply_recipe(model.recipe.defaults);
  options.set("prompt=a red circle over grass");
  options.set("seed=5");
  for (const std::string& assignment : set) options.set(assignment);
  return make_magi_request(model.recipe, options.values());
}

struct Video {
  at::Tensor latents, frames;
  RunStats stats;
};

Video run(MagiEngine& engine, const MagiRequest& request) {
  const c10::InferenceMode inference;
  Video video;
  std::vector<at::Tensor> frames;
  GenerateHooks hooks;
  hooks.on_latents = [&](int, const at::Tensor& latents) { video.latents = latents.clone(); };
  hooks.on_frames = [&](const at::Tensor& x) { frames.push_back(x.clone()); };
  engine.encode(request.prompts);
  video.stats = engine.run(request, hooks);
  video.frames = at::cat(frames, 1);
  CHECK(at::isfinite(video.frames).all().item<bool>());
  CHECK(video.frames.size(1) == request.frames());
  return video;
}

Video run(const MagiFolder& folder, const std::vector<std::string>& set = {}) {
  const ResolvedModel model = opened(folder);
  MagiEngine engine(model, kCpu, magi::QuantisedAs::working_dtype);
  return run(engine, request_of(model, set));
}

// What opening the folder says.
std::string told(const MagiFolder& folder) {
  return refused([&] {
    const ResolvedModel model = opened(folder);
    MagiEngine(model, kCpu, magi::QuantisedAs::working_dtype).load();
  });
}

Recipe tiny_recipe(bool distilled) {
  Recipe r = *magi_recipe_of_folder(MagiFolder(distilled).path());
  r.architecture.vae_dim = 256, r.architecture.vae_depth = 1, r.architecture.vae_heads = 4;
  return r;
}

}  // namespace

TEST_CASE("MAGI-1 runs from a folder of the reference's layout, twice to the same bits") {
  for (const bool distilled : {false, true}) {
    const MagiFolder folder(distilled);
    const Video a = run(folder), b = run(folder);
    CHECK(a.frames.sizes().vec() == std::vector<int64_t>{3, 16, 32, 48});
    CHECK(at::equal(a.frames, b.frames));
    CHECK(a.stats.total().flops > 0);
    CHECK(a.stats.kv_bytes > 0);
    CHECK_FALSE(at::equal(a.latents, run(folder, {"seed=6"}).latents));
    CHECK_FALSE(at::equal(a.latents, run(folder, {"prompt=a blue star"}).latents));
    CHECK_FALSE(at::equal(a.latents, run(folder, {"sampling.special_tokens=none"}).latents));
    CHECK_FALSE(at::equal(a.latents, run(folder, {"sampling.key_chunks=1"}).latents));
  }
}

TEST_CASE("MAGI-1: what the configuration says is what runs") {
  MagiFolder folder(/*distilled=*/false);
  const Video guided = run(folder);
  CHECK_FALSE(at::equal(guided.latents, run(folder, {"sampling.guidance=2"}).latents));
  folder.config()["runtime_config"]["text_scales"] = {2, 2, 2, 0, 0};
  folder.write();
  CHECK(at::equal(run(folder).latents, run(folder, {"sampling.guidance=2"}).latents));
  CHECK_FALSE(at::equal(guided.latents, run(folder).latents));
}

TEST_CASE("MAGI-1: each of its options changes the video") {
  const MagiFolder folder(/*distilled=*/false);
  const ResolvedModel model = opened(folder);
  MagiEngine engine(model, kCpu, magi::QuantisedAs::working_dtype);
  const auto latents = [&](const std::string& set) { return run(engine, request_of(model, {"video.frames=32", set})).latents; };
  const at::Tensor usual = latents("sampling.in_flight=4");
  for (const char* set : {"sampling.in_flight=2", "sampling.key_chunks=2", "sampling.clean_key_chunks=2", "sampling.prev_guidance=2",
                          "sampling.special_tokens=high_quality", "sampling.guidance=3", "sampling.steps=12"}) {
    INFO(set);
    CHECK_FALSE(at::equal(latents(set), usual));
  }
}

TEST_CASE("MAGI-1: policies decide, and parity is of one program") {
  const MagiFolder folder(/*distilled=*/true);
  const ResolvedModel model = opened(folder);
  MagiEngine engine(model, kCpu, magi::QuantisedAs::working_dtype);
  const auto stats = [&](const std::string& policy) { return run(engine, request_of(model, {"policy=" + policy})).stats.total(); };
  const WorkCount none = stats("none"), causal = stats("causal"), cached = stats("flowcache:threshold=1000,warmup=1");
  CHECK(causal.flops < none.flops);  // no clean passes, no copies
  CHECK(causal.saved_share() == 0);
  CHECK(cached.saved_share() > 0.2);
  CHECK(cached.flops < causal.flops);
  CHECK(request_of(model, {"parity=motioncache-ref", "policy=motioncache"}).policy.parity);
  CHECK_THROWS_AS(request_of(model, {"parity=skyreels-ref"}), Error);
  const MagiFolder base(/*distilled=*/false);
  CHECK(request_of(opened(base), {"policy=motioncache"}).settings().own_keys);
  CHECK_FALSE(request_of(opened(base), {"policy=flowcache"}).settings().own_keys);
  CHECK_THROWS_AS(request_of(opened(base), {"policy=motioncache", "parity=motioncache-ref"}), Error);
}

TEST_CASE("MAGI-1: decoding beside denoising gives the same bits") {
  const MagiFolder folder(/*distilled=*/true);
  const ResolvedModel model = opened(folder);
  MagiEngine engine(model, kCpu, magi::QuantisedAs::working_dtype);
  MagiRequest request = request_of(model, {"video.frames=32"});
  const Video after = run(engine, request);
  request.run.decode_ahead = true;
  CHECK(at::equal(run(engine, request).frames, after.frames));
}

TEST_CASE("MAGI-1 begins with a picture and goes on from a video") {
  const MagiFolder folder(/*distilled=*/true);
  const ResolvedModel model = opened(folder);
  MagiEngine engine(model, kCpu, magi::QuantisedAs::working_dtype);
  // As long as asked for, the picture's own frames included.
  MagiRequest picture = request_of(model, {"conditioning.image=x.png"});
  picture.given = at::full({3, 1, 32, 48}, 0.5, at::kFloat);
  const Video shown = run(engine, picture);
  CHECK(shown.frames.size(1) == 16);
  CHECK(shown.latents.size(1) == 4);
  // 12 frames are 3 latent frames, one and a half chunks: 5 more end the fourth chunk, 20 frames.
  MagiRequest video = request_of(model, {"conditioning.video=x.mp4", "conditioning.context=12", "conditioning.add=0.8"});
  video.given = at::full({3, 12, 32, 48}, -0.25, at::kFloat);
  const Video behind = run(engine, video);
  CHECK(behind.frames.size(1) == 20);
  CHECK(behind.latents.size(1) == 8);
  const at::Tensor prefix = behind.latents.narrow(1, 0, 3);
  video.given = at::full({3, 12, 32, 48}, 0.75, at::kFloat);
  const Video other = run(engine, video);
  CHECK_FALSE(at::equal(other.latents.narrow(1, 0, 3), prefix));
  CHECK_FALSE(at::equal(other.frames, behind.frames));
}

TEST_CASE("MAGI-1: prompts over time reach the chunks of their time") {
  const MagiFolder folder(/*distilled=*/true);
  const ResolvedModel model = opened(folder);
  MagiEngine engine(model, kCpu, magi::QuantisedAs::working_dtype);
  // Four chunks of 8 frames at 8 fps: a second each.
  const auto request = [&](const std::string& prompts) {
    return request_of(model, {"video.frames=32", "video.fps=8", "prompt=" + std::string(prompts.empty() ? "red" : ""), "prompts=" + prompts});
  };
  const Video one = run(engine, request(""));
  CHECK(at::equal(run(engine, request("0-1.2: red\n1.2-2.9: red\n2.9-: red")).frames, one.frames));
  const MagiRequest two = request("0-2: red\n2-: blue");
  CHECK(two.prompts == std::vector<std::string>{"red", "blue"});
  const Video changed = run(engine, two);
  CHECK(at::equal(changed.latents.narrow(1, 0, 4), one.latents.narrow(1, 0, 4)));
  CHECK_FALSE(at::equal(changed.latents.narrow(1, 4, 2), one.latents.narrow(1, 4, 2)));
  CHECK_THAT(magi_plan_report(two, model.recipe, MemoryPlan{}), ContainsSubstring("prompts: chunks 1-2 'red', chunks 3-4 'blue'"));
  CHECK(magi_plan_report(request(""), model.recipe, MemoryPlan{}).find("prompts:") == std::string::npos);
}

TEST_CASE("MAGI-1: a run that is stopped has decoded what is finished") {
  const MagiFolder folder(/*distilled=*/true);
  const ResolvedModel model = opened(folder);
  MagiEngine engine(model, kCpu, magi::QuantisedAs::working_dtype);
  const MagiRequest request = request_of(model, {"video.frames=32"});
  engine.encode(request.prompts);
  int64_t frames = 0;
  int finished = 0;
  GenerateHooks hooks;
  hooks.denoise.on_row_end = [&](const RowEnd& end) { finished += static_cast<int>(end.finished.size()); };
  hooks.on_frames = [&](const at::Tensor& x) { frames += x.size(1); };
  hooks.should_stop = [&] { return finished == 2; };
  try {
    engine.run(request, hooks);
    FAIL("it was not stopped");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::interrupted);
    CHECK_THAT(error.what(), ContainsSubstring("2 of 4 chunks"));
  }
  CHECK(frames == 16);
}

TEST_CASE("MAGI-1: folders whose parts are missing or do not fit are refused by name") {
  const std::string layer = "videodit_blocks.layers.1.self_attention.linear_qkv.k.weight";
  MagiFolder folder(/*distilled=*/true);
  CHECK(told(folder) == "");
  const at::Tensor good = folder.weights()[layer];
  folder.weights().erase(layer);
  folder.write();
  CHECK_THAT(told(folder), ContainsSubstring("lacks the tensor '" + layer + "'"));
  folder.weights()[layer] = good.narrow(0, 0, 16);
  folder.write();
  CHECK_THAT(told(folder), ContainsSubstring(layer) && ContainsSubstring("[16, 64]") && ContainsSubstring("[32, 64]"));
  folder.weights()[layer] = good;
  folder.config()["model_config"]["num_layers"] = 2;
  folder.write();
  CHECK_THAT(told(folder), ContainsSubstring("more than the 2 layers"));
  folder.config()["model_config"]["num_layers"] = 3;
  folder.write();
  std::filesystem::remove(folder.transformer() / "model-00002-of-00002.safetensors");
  CHECK_THAT(told(folder), ContainsSubstring("model-00002-of-00002.safetensors") && ContainsSubstring("missing"));
  folder.write();
  test::save_npz(folder.path() / "special_tokens.npz", {{"caption_token", test::special_rows(1, 5, 1)}});
  CHECK_THAT(told(folder), ContainsSubstring("special_tokens.npz"));
  folder.write();
  std::filesystem::remove_all(folder.transformer());
  CHECK_THAT(told(folder), ContainsSubstring("no transformer at") && ContainsSubstring("inference_weight.distill"));
  // Another text encoder.
  folder.write();
  const ResolvedModel model = opened(folder);
  ResolvedModel wider = model;
  wider.recipe.architecture.text_dim = 32;
  CHECK_THAT(refused([&] { encode_captions(wider, {"x"}, at::kCPU); }), ContainsSubstring("width 16, expected 32"));
}

TEST_CASE("MAGI-1: quantised folders run, and are not taken for others") {
  MagiFolder folder(/*distilled=*/true, /*fp8=*/true);
  CHECK(folder.transformer().filename() == "inference_weight.fp8.distill");
  run(folder);
  // Multiplied out it is the model that it was made from, but for the rounding.
  const ResolvedModel model = opened(folder);
  CHECK(load_magi_transformer(model, kCpu, magi::QuantisedAs::working_dtype).quantised() == 7);
  CHECK(load_magi_transformer(model, {at::kCPU, at::kBFloat16}, magi::QuantisedAs::fp8).in_fp8() == 7);
  CHECK(quantised_as(model.recipe, kCpu, "auto") == magi::QuantisedAs::working_dtype);
  ResolvedModel wrong = model;
  wrong.recipe.architecture.fp8 = false;
  CHECK_THAT(refused([&] { load_magi_transformer(wrong, kCpu, {}); }), ContainsSubstring("holds quantised layers"));
  const MagiFolder plain(/*distilled=*/true);
  wrong = opened(plain);
  wrong.recipe.architecture.fp8 = true;
  CHECK_THAT(refused([&] { load_magi_transformer(wrong, kCpu, {}); }), ContainsSubstring("holds no quantised layers"));
  CHECK_THROWS_AS(quantised_as(opened(plain).recipe, kCpu, "fp8"), Error);
}

TEST_CASE("MAGI-1 with random weights is finite and the same again") {
  for (const bool distilled : {false, true}) {
    const Recipe recipe = tiny_recipe(distilled);
    const auto latents = [&](uint64_t seed) {
      MagiEngine engine({recipe, {}, "no files"}, kCpu, {}, seed);
      return run(engine, request_of({recipe, {}, ""})).latents;
    };
    const at::Tensor a = latents(1);
    CHECK(a.abs().max().item<double>() < 100);
    CHECK(at::equal(a, latents(1)));
    CHECK_FALSE(at::equal(a, latents(2)));
  }
  Recipe quantised = tiny_recipe(true);
  quantised.architecture.fp8 = true;
  CHECK_THROWS_AS(random_magi_transformer(quantised, kCpu, 1), Error);
}

TEST_CASE("MAGI-1: the work of the published runs") {
  // Spec magi1.md section 7, in PFLOP; for the base model that with branches skipped. The table of the distilled ones has a quarter of a
  // chunk's steps more: copies of a chunk that sees only itself, which are left out here (3.6).
  const auto work = [](const std::string& name, const std::vector<std::string>& set) {
    const ResolvedModel model{find_recipe(name, default_search()), {}, ""};
    return magi_work(request_of(model, set), 0);
  };
  CHECK(work("magi-1-4.5b-distill", {}).flops * 1e-15 == Approx(71.7 - 16 * 0.1605).epsilon(0.01));
  CHECK(work("magi-1-4.5b-distill", {"sampling.steps=16"}).flops * 1e-15 == Approx(18.3 - 4 * 0.1605).epsilon(0.01));
  CHECK(work("magi-1-4.5b-distill", {"video.size=480x832"}).flops * 1e-15 == Approx(48.2 - 16 * 0.1127).epsilon(0.01));
  CHECK(work("magi-1-4.5b", {}).flops * 1e-15 == Approx(150.0).epsilon(0.01));
  CHECK(work("magi-1-24b-distill", {}).flops * 1e-15 == Approx(170 - 4 * 1.515).epsilon(0.01));
  CHECK(work("magi-1-4.5b-distill", {"video.frames=240", "sampling.key_chunks=all"}).flops * 1e-15 == Approx(307.8 - 16 * 0.1605).epsilon(0.01));
  CHECK(work("magi-1-4.5b-distill", {}).rows == 64 / 4 * (4 + 4 - 1));
  const ResolvedModel model{find_recipe("magi-1-4.5b", default_search()), {}, ""};
  MemoryPlan memory;
  memory.denoise.kv = 7e9;
  const std::string report = magi_plan_report(request_of(model), model.recipe, memory);
  CHECK_THAT(report, ContainsSubstring("96 frames of 720x720") && ContainsSubstring("4 chunks of 6") && ContainsSubstring("3 forwards a step") &&
                         ContainsSubstring("keys and values of 4 chunks") && ContainsSubstring("peak memory: 7.0 GB while denoising"));
}

TEST_CASE("MAGI-1: a run computes what its plan says") {
  const MagiFolder folder(/*distilled=*/true);
  const ResolvedModel model = opened(folder);
  MagiEngine engine(model, kCpu, magi::QuantisedAs::working_dtype);
  const MagiRequest request = request_of(model, {"video.frames=24"});
  const Video video = run(engine, request);
  // The caption's rows and those in front of it.
  const int64_t text = engine.caption(request.prompts.front()).rows.size(0) + 2;
  CHECK(video.stats.total().flops == Approx(magi_work(request, text).flops).epsilon(0.02));
}
