// MAGI-1 through the program: tiny model folders in the reference's layout, end to end.
#include <ATen/ops/equal.h>

#include <nlohmann/json.hpp>

#include "models/weights/checkpoint.h"
#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/models/magi_folder.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/png.h"
#include "video_io/reader.h"
#include "video_io/writer.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> generate(const fs::path& model, const fs::path& out, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"generate", "-m", model, "-p", "a red circle over grass", "-o", out, "--seed", "1", "--dtype", "fp32",
                                        "--device", "cpu"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

ProgramResult run(const std::vector<std::string>& arguments, int status = 0) {
  ProgramResult result = run_longtake(arguments);
  INFO(result.err << result.out);
  CHECK(result.status == status);
  return result;
}

at::Tensor frames_of(const fs::path& file) { return Checkpoint::open(file).tensor("frames").clone(); }

// A recipe of sizes alone in a folder of its own, as --model-config takes it.
fs::path recipe_folder(const TemporaryFolder& folder, bool distilled) {
  test::write_file(folder / "recipe.yaml",
                   std::string("description: tiny\n"
                               "layouts: {x: {transformer: t, vae: v, text_encoder: e, tokenizer: k, special_tokens: s}}\n"
                               "architecture: {family: magi-1, dim: 64, ffn: 96, heads: 4, kv_heads: 2, layers: 2, latent_channels: 16, text_dim: 16, "
                               "text_len: 60, vae_dim: 256, vae_depth: 1, vae_heads: 4, gated_mlp: true, doubled_latents: true, latent_scale: 0.1, ") +
                       (distilled ? "distilled: true}\n" : "guided_until: 0.3}\n") +
                       "defaults: {policy: none, video: {size: 32x48, frames: 24, fps: 24}, sampling: {steps: 8, chunk: 2, in_flight: 4}, run: {dtype: fp32}}\n");
  return folder.path();
}

}  // namespace

TEST_CASE("a MAGI-1 folder becomes a video, twice the same") {
  const TemporaryFolder folder;
  const test::MagiFolder base(/*distilled=*/false), distilled(/*distilled=*/true);
  run(generate(distilled.path(), folder / "a.mp4", {"--json-log", folder / "log.json"}));
  const VideoInfo video = probe(folder / "a.mp4");
  CHECK(video.frames == 16);
  CHECK(video.width == 48);
  CHECK(video.fps == 24);
  CHECK_THAT(read_bytes(folder / "log.json"), ContainsSubstring("\"done\""));
  for (const auto* model : {&base, &distilled}) {
    run(generate(model->path(), folder / "a.safetensors"));
    run(generate(model->path(), folder / "b.safetensors"));
    const at::Tensor a = frames_of(folder / "a.safetensors");
    CHECK(a.sizes().vec() == std::vector<int64_t>{16, 32, 48, 3});
    CHECK(at::equal(a, frames_of(folder / "b.safetensors")));
    run(generate(model->path(), folder / "b.safetensors", {"--seed", "2"}));
    CHECK_FALSE(at::equal(a, frames_of(folder / "b.safetensors")));
  }
  // Policies on the whole length of a run.
  run(generate(distilled.path(), folder / "a.safetensors", {"--policy", "causal"}));
  run(generate(distilled.path(), folder / "b.safetensors", {"--policy", "motioncache:threshold=1000,token_threshold=1000,warmup=1"}));
  CHECK_FALSE(at::equal(frames_of(folder / "a.safetensors"), frames_of(folder / "b.safetensors")));
  CHECK_THAT(run(generate(base.path(), folder / "b.safetensors", {"--policy", "motioncache", "--parity", "motioncache-ref"}), 2).err,
             ContainsSubstring("decides per token"));
  const std::string saving = "motioncache:warmup=0,chunk_steps=0,token_threshold=0.05,reuse_first=0.5,reuse_last=0.2";
  CHECK_THAT(run(generate(base.path(), folder / "b.safetensors", {"--policy", saving})).out, ContainsSubstring("token"));
  const auto record = nlohmann::json::parse(run({"inspect", folder / "a.mp4"}).out);
  const std::string text = record.dump();
  CHECK_THAT(text, ContainsSubstring("a red circle over grass") && ContainsSubstring("in_flight") && ContainsSubstring("special_tokens"));
  CHECK_THAT(text, !ContainsSubstring("ar_step") && !ContainsSubstring("overlap"));
}

TEST_CASE("MAGI-1 begins with a picture and goes on from a video in the program too") {
  const TemporaryFolder folder;
  const test::MagiFolder model(/*distilled=*/true);
  write_png(folder / "p.png", smooth_clip(1, 32, 48)[0]);
  run(generate(model.path(), folder / "text.safetensors"));
  run(generate(model.path(), folder / "picture.safetensors", {"--image", folder / "p.png"}));
  CHECK(frames_of(folder / "picture.safetensors").size(0) == 16);
  CHECK_FALSE(at::equal(frames_of(folder / "picture.safetensors"), frames_of(folder / "text.safetensors")));

  VideoWriter writer({.path = folder / "clip.mp4", .width = 64, .height = 48, .fps = 24, .crf = 10});
  writer.push(smooth_clip(20, 48, 64));
  writer.finish();
  std::vector<std::string> extend = {"extend", folder / "clip.mp4", "-m", model.path(), "-p", "x", "-o", folder / "longer.mp4", "--add", "0.5",
                                     "--seed", "1", "--dtype", "fp32", "--device", "cpu"};
  const ProgramResult longer = run(extend);
  CHECK_THAT(longer.err, ContainsSubstring("goes on from the last 20"));
  CHECK(probe(folder / "longer.mp4").frames == 20 + 12);  // 5 latent frames and 3 make 4 chunks of 2
  extend.insert(extend.end(), {"--context", "6"});
  CHECK_THAT(run(extend, 2).err, ContainsSubstring("multiple of 4"));
  extend.back() = "4";
  CHECK_THAT(run(extend, 2).err, ContainsSubstring("8 frames of a video or more"));
}

TEST_CASE("MAGI-1 reads prompts over time, behind given frames too") {
  const TemporaryFolder folder;
  const test::MagiFolder model(/*distilled=*/true);
  // Four chunks of a third of a second.
  const auto video = [&](const std::vector<std::string>& prompt, const fs::path& out, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"generate", "-m", model.path(), "-o", out, "--seed", "1", "--dtype", "fp32", "--device", "cpu",
                                          "--frames", "32"};
    arguments.insert(arguments.end(), prompt.begin(), prompt.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const fs::path list = folder / "list.txt", one = folder / "one.safetensors", out = folder / "x.safetensors";
  run(video({"-p", "a red circle"}, one));
  test::write_file(list, "0-0.4: a red circle\n0.4-0.9s: a red circle\n0.9-: a red circle\n");
  run(video({"--prompts", list}, out));
  CHECK(at::equal(frames_of(out), frames_of(one)));
  test::write_file(list, "0-0.6: a red circle\n0.6-: a blue star\n");
  run(video({"--prompts", list}, out));
  CHECK(at::equal(frames_of(out).narrow(0, 0, 16), frames_of(one).narrow(0, 0, 16)));
  CHECK_FALSE(at::equal(frames_of(out).narrow(0, 16, 16), frames_of(one).narrow(0, 16, 16)));
  CHECK_THAT(run(video({"--prompts", list}, out, {"--dry-run"})).out,
             ContainsSubstring("prompts: chunks 1-2 'a red circle', chunks 3-4 'a blue star'"));
  run(video({"--prompts", list}, folder / "x.mp4"));
  CHECK(nlohmann::json::parse(run({"inspect", folder / "x.mp4"}).out)["made_with"]["prompt"] == read_bytes(list));
  // 20 given frames are 2 chunks and a half; what follows them begins at 0 s.
  const ProgramResult longer = run({"extend", folder / "x.mp4", "-m", model.path(), "--context", "20", "--add", "0.85", "--prompts", list, "-o",
                                    folder / "longer.mp4", "--dry-run"});
  CHECK_THAT(longer.out, ContainsSubstring("20 frames of") && ContainsSubstring("prompts: chunks 3-4 'a red circle', chunk 5 'a blue star'"));
  test::write_file(list, "0-0.6: a red circle\n0.6-2: a blue star\n");
  CHECK_THAT(run(video({"--prompts", list}, folder / "y.mp4"), 2).err, ContainsSubstring("line 2: the range ends at 2 s, and the video at 1.33 s"));
  CHECK_FALSE(fs::exists(folder / "y.mp4"));
}

TEST_CASE("MAGI-1's decisions are recorded, replayed and looked at") {
  const TemporaryFolder folder;
  const test::MagiFolder model(/*distilled=*/true);
  const fs::path plan = folder / "plan.json", a = folder / "a.safetensors", b = folder / "b.safetensors";
  for (const std::string policy : {"none", "flowcache:threshold=1000,warmup=1,base=none",
                                   "motioncache:warmup=0,chunk_steps=1,threshold=0.02,token_threshold=0.03"}) {
    INFO(policy);
    run(generate(model.path(), a, {"--policy", policy, "--record-plan", plan}));
    run(generate(model.path(), b, {"--plan", plan}));
    CHECK(at::equal(frames_of(a), frames_of(b)));
    const ProgramResult shown = run({"plan", "show", plan, "--ascii"});
    CHECK_THAT(shown.out, ContainsSubstring("policy " + policy) && ContainsSubstring("w1   c2") && ContainsSubstring("1 branch") &&
                              ContainsSubstring("recomputed: "));
    CHECK((shown.out.find("nearly clean copies") != std::string::npos) == !policy.starts_with("motioncache"));
  }
  // By hand, for this model and for SkyReels-V2's.
  test::write_file(plan, R"({"longtake_plan": 1, "base": "none", "decisions": [{"tokens": "none"}, {"step": "0-3", "tokens": "all"}]})");
  CHECK_THAT(run(generate(model.path(), b, {"--plan", plan, "--dry-run"})).out, ContainsSubstring("FFFFRRRR"));
  run(generate(model.path(), b, {"--plan", plan}));
  CHECK_FALSE(at::equal(frames_of(a), frames_of(b)));
  CHECK_THAT(run({"generate", "-m", "demo", "-p", "x", "--plan", plan, "--dry-run"}, 2).err, ContainsSubstring("has the base 'none'"));
  CHECK_THAT(run(generate(model.path(), b, {"--plan", plan, "--policy", "causal"}), 2).err, ContainsSubstring("exclude each other"));
  test::write_file(plan, R"({"longtake_plan": 1, "decisions": [{"tokens": "none"}, {"step": 0, "chunk": 0, "tokens": "all"}]})");
  CHECK_THAT(run(generate(model.path(), b, {"--plan", plan}), 2).err, ContainsSubstring("window 0, chunk 1, step 0"));
}

TEST_CASE("MAGI-1: what does not apply is refused with the reason") {
  const TemporaryFolder folder;
  const test::MagiFolder model(/*distilled=*/true);
  const auto told = [&](const std::vector<std::string>& more, int status = 2) { return run(generate(model.path(), folder / "x.mp4", more), status).err; };
  CHECK_THAT(told({"--shift", "5"}), ContainsSubstring("--shift: sampling.shift has no effect on"));
  CHECK_THAT(told({"--guidance", "5"}), ContainsSubstring("built in"));
  CHECK_THAT(told({"--end-image", "p.png"}), ContainsSubstring("it has no way to lead to a picture"));
  CHECK_THAT(told({"--policy", "predict"}), ContainsSubstring("predict"));
  CHECK_THAT(told({"--frames", "17"}), ContainsSubstring("multiple of 8"));
  CHECK_THAT(told({"--resume", "--overwrite-run"}), ContainsSubstring("exclude each other"));
  CHECK_THAT(told({"--special-tokens", "hq"}), ContainsSubstring("sampling.special_tokens knows no 'hq'"));
  CHECK_THAT(told({"--precision", "fp8", "--dtype", "bf16"}), ContainsSubstring("fp8"));
  CHECK_THAT(run({"generate", "-m", "demo", "-p", "x", "-o", folder / "x.mp4", "--in-flight", "2"}, 2).err, ContainsSubstring("has no effect on demo"));
  CHECK_THAT(run({"generate", "-m", "magi-1-24b", "-p", "x", "-o", folder / "x.mp4"}, 3).err, ContainsSubstring("no files of model magi-1-24b"));
  CHECK(folder.names().empty());
}

TEST_CASE("models and plans of MAGI-1 without files") {
  CHECK_THAT(run({"models"}).out, ContainsSubstring("magi-1-4.5b-distill-fp8"));
  const ProgramResult shown = run({"models", "magi-1-24b-distill"});
  CHECK_THAT(shown.out, ContainsSubstring("family: magi-1, distilled") && ContainsSubstring("48 heads, 8 for K/V") && ContainsSubstring("23.90 G") &&
                            ContainsSubstring("special_tokens"));
  const ProgramResult plan = run({"generate", "-m", "magi-1-4.5b", "--dry-run"});
  CHECK_THAT(plan.out, ContainsSubstring("96 frames of 720x720") && ContainsSubstring("112 with 4 chunks in flight"));
  // What is printed can be read again.
  const TemporaryFolder folder;
  test::write_file(folder / "c.yaml", run({"generate", "-m", "magi-1-4.5b-distill", "--print-config"}).out);
  run({"generate", "--config", folder / "c.yaml", "--dry-run"});
  test::write_file(folder / "d.yaml", run({"generate", "--print-config"}).out);
  run({"generate", "--config", folder / "d.yaml", "--dry-run"});
}

TEST_CASE("bench generate measures every row of MAGI-1, with random weights and with files") {
  for (const bool distilled : {false, true}) {
    const TemporaryFolder folder;
    const auto report = nlohmann::json::parse(run({"bench", "generate", "--model-config", recipe_folder(folder, distilled), "--random-weights",
                                                   "--device", "cpu", "--json"}).out);
    CHECK(report["rows_planned"] == 8 / 4 * (3 + 4 - 1));
    CHECK(report["rows"].size() == report["rows_planned"]);
    CHECK(report["stopped"] == false);
    CHECK(report["branches"] == (distilled ? 1 : 3));
    CHECK(report["in_flight"] == 4);
    CHECK_FALSE(report.contains("ar_step"));
    CHECK(report["decode_seconds"] > 0);
    CHECK(report["kv_bytes"] > 0);
    CHECK(report["weight_bytes"] > 0);
    int moved = 0;
    double flops = 0;
    for (const auto& row : report["rows"]) {
      CHECK(row["seconds"] > 0);
      CHECK(row["flops"] > 0);
      moved += row["chunks"].get<int>(), flops += row["flops"].get<double>();
    }
    CHECK(moved == 3 * 8);  // three chunks, eight steps each
    CHECK(flops == Approx(report["flops"].get<double>()));
  }
  const TemporaryFolder folder;
  const ProgramResult few = run({"bench", "generate", "--model-config", recipe_folder(folder, true), "--random-weights", "--device", "cpu", "--rows", "3"});
  CHECK_THAT(few.out, ContainsSubstring("in 3 of 12 rows") && ContainsSubstring("4 chunks in flight"));
  const test::MagiFolder model(/*distilled=*/true);
  const auto files = nlohmann::json::parse(run({"bench", "generate", "-m", model.path(), "--device", "cpu", "--dtype", "fp32", "--json"}).out);
  CHECK_THAT(files["weights"].get<std::string>(), ContainsSubstring("weights from"));
  CHECK(files["rows"].size() == files["rows_planned"]);
}
