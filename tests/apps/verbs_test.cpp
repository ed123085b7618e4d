// The other verbs, end to end.
#include <ATen/ops/equal.h>

#include <nlohmann/json.hpp>

#include "models/weights/checkpoint.h"
#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("help and version") {
  CHECK_THAT(run_longtake({"--version"}).out, ContainsSubstring("longtake "));
  const ProgramResult help = run_longtake({"generate", "--help"});
  CHECK(help.status == 0);
  for (const char* flag : {"--prompt", "--policy", "--frames", "--duration", "--size", "--steps", "--guidance", "--seed", "--negative",
                           "--device", "--config", "--set", "--print-config", "--dry-run"})
    CHECK_THAT(help.out, ContainsSubstring(flag));
  const ProgramResult all = run_longtake({"generate", "--help-all"});
  for (const char* flag : {"--shift", "--ar-step", "--chunk", "--overlap", "--dtype", "--json-log", "--crf"}) CHECK_THAT(all.out, ContainsSubstring(flag));
}

TEST_CASE("models lists the recipes and what they need") {
  const ProgramResult list = run_longtake({"models"});
  CHECK(list.status == 0);
  for (const char* name : {"demo", "skyreels-v2-df-1.3b-540p", "skyreels-v2-df-14b-540p", "skyreels-v2-df-14b-720p"})
    CHECK_THAT(list.out, ContainsSubstring(name));
  CHECK_THAT(run_longtake({"models", "demo"}).out, ContainsSubstring("diffusion_pytorch_model.safetensors") || ContainsSubstring("transformer"));
}

TEST_CASE("doctor finds this build sound") {
  const ProgramResult run = run_longtake({"doctor"});
  INFO(run.out << run.err);
  CHECK(run.status == 0);
  CHECK_THAT(run.out, ContainsSubstring("self-test: passed"));
}

TEST_CASE("a converted model gives the same video") {
  const TemporaryFolder folder;
  const std::filesystem::path demo = std::filesystem::path(LONGTAKE_SOURCE_DIR) / "share/models/demo";
  std::filesystem::copy(demo, folder / "model", std::filesystem::copy_options::recursive);
  const auto weights = folder / "model/transformer/diffusion_pytorch_model.safetensors";
  std::filesystem::remove(weights);
  const ProgramResult converted = run_longtake({"convert", demo / "transformer/diffusion_pytorch_model.safetensors", weights});
  INFO(converted.err);
  REQUIRE(converted.status == 0);
  REQUIRE(run_longtake(quick_generate(folder / "a.safetensors")).status == 0);
  REQUIRE(run_longtake(quick_generate(folder / "b.safetensors", {"-m", folder / "model"})).status == 0);
  CHECK(at::equal(Checkpoint::open(folder / "a.safetensors").tensor("frames"), Checkpoint::open(folder / "b.safetensors").tensor("frames")));
}

TEST_CASE("inspect tells what a checkpoint holds") {
  const auto file = std::filesystem::path(LONGTAKE_SOURCE_DIR) / "share/models/demo/transformer";
  const ProgramResult run = run_longtake({"inspect", file, "--all"});
  CHECK(run.status == 0);
  CHECK_THAT(run.out, ContainsSubstring("BFloat16") && ContainsSubstring("patch_embedding.weight") && ContainsSubstring("[256, 16, 1, 2, 2]"));
}

TEST_CASE("the demo model follows its prompt, and metrics sees it") {
  const TemporaryFolder folder;
  const auto video = folder / "x.mp4";
  const ProgramResult made = run_longtake({"generate", "-m", "demo", "-p", "a large green triangle moves up over sand", "--seed", "3", "--steps",
                                           "16", "--frames", "57", "-o", video});
  INFO(made.err);
  REQUIRE(made.status == 0);
  const ProgramResult run = run_longtake({"metrics", video});  // the prompt comes from the file
  REQUIRE(run.status == 0);
  const auto report = nlohmann::json::parse(run.out);
  CHECK(report["colour"]["measured"] == "green");
  CHECK(report["shape"]["measured"] == "triangle");
  CHECK(report["motion"]["measured"] == "upwards");
  CHECK(report["background"]["still"] == true);
  CHECK(report["follows"] == true);
}

TEST_CASE("the MAGI-1 demo models give a prompt's colour and motion") {
  for (const char* model : {"demo-magi", "demo-magi-distill"}) {
    const TemporaryFolder folder;
    const auto video = folder / "x.mp4";
    const ProgramResult made =
        run_longtake({"generate", "-m", model, "-p", "a large yellow square moves up over the night sky", "--seed", "3", "--steps", "16", "--frames", "45", "-o", video});
    INFO(model << ": " << made.err);
    REQUIRE(made.status == 0);
    const ProgramResult run = run_longtake({"metrics", video});
    REQUIRE(run.status == 0);
    const auto report = nlohmann::json::parse(run.out);
    CHECK(report["colour"]["measured"] == "yellow");
    CHECK(report["motion"]["measured"] == "upwards");
  }
}

TEST_CASE("metrics compares two videos of one size and refuses others") {
  const TemporaryFolder folder;
  const auto raw = folder / "a.safetensors", video = folder / "a.mp4", other = folder / "b.mp4";
  REQUIRE(run_longtake(quick_generate(raw)).status == 0);
  REQUIRE(run_longtake(quick_generate(video)).status == 0);
  const auto same = nlohmann::json::parse(run_longtake({"metrics", raw, raw}).out);
  CHECK(same["against"]["psnr"] == 100);
  CHECK(same["against"]["ssim"].get<double>() > 1 - 1e-9);
  const auto encoded = nlohmann::json::parse(run_longtake({"metrics", raw, video}).out);
  CHECK(encoded["against"]["psnr"] < 60);
  CHECK(encoded["against"]["psnr"] > 25);
  CHECK(encoded["against"]["psnr_by_frame"].size() == 17);
  REQUIRE(run_longtake(quick_generate(other, {"--frames", "9"})).status == 0);
  const ProgramResult refused = run_longtake({"metrics", video, other});
  CHECK(refused.status == 2);
  CHECK_THAT(refused.err, ContainsSubstring("17 frames") && ContainsSubstring("9 of"));
}
