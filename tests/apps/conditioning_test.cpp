// Videos that begin with a picture or lead to one, end to end.
#include <ATen/ops/equal.h>
#include <signal.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/model.h"
#include "tests/apps/conditioned.h"
#include "tests/video_io/phone_files.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/frames.h"
#include "video_io/png.h"
#include "video_io/reader.h"
#include "video_io/still.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

// A picture that the demo model's VAE knows well: the middle frame of one of its videos.
fs::path draw(const TemporaryFolder& folder) {
  REQUIRE(run_longtake(quick_generate(folder / "scene.safetensors", {"--steps", "12"})).status == 0);
  write_png(folder / "scene.png", tensor_of(folder / "scene.safetensors", "frames")[8]);
  return folder / "scene.png";
}

}  // namespace

TEST_CASE("a video begins with its image, whatever the chunk size and the policy") {
  const TemporaryFolder folder;
  const fs::path image = draw(folder), out = folder / "x.safetensors";
  const at::Tensor picture = tensor_of(folder / "scene.safetensors", "frames").narrow(0, 8, 1);
  const WanVae vae = load_vae(resolve_model("demo", default_search()).require_files(), {});
  const at::Tensor encoded = vae.encode(from_frames(picture).unsqueeze(0));
  const at::Tensor round_trip = to_frames(vae.decode(encoded).squeeze(0));
  REQUIRE(psnr(round_trip, picture) > 25);
  for (const auto& more : std::vector<std::vector<std::string>>{
           {"--chunk", "1"}, {"--chunk", "2"}, {"--chunk", "5"}, {"--chunk", "7"}, {"--policy", "none"}, {"--set", "sampling.addnoise=0"}}) {
    INFO(more[0] << " " << more[1]);
    std::vector<std::string> arguments = quick_generate(out, {"--image", image});
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult run = run_longtake(arguments);
    INFO(run.err);
    REQUIRE(run.status == 0);
    const at::Tensor frames = tensor_of(out, "frames");
    CHECK(frames.size(0) == 17);
    CHECK((tensor_of(out, "latents0").narrow(1, 0, 1) - encoded.squeeze(0)).abs().max().item<float>() < 1e-4);
    CHECK(psnr(frames.narrow(0, 0, 1), round_trip) > 45);
    CHECK_FALSE(at::equal(frames[16], frames[0]));
  }
}

TEST_CASE("a phone's picture, first or last, is taken as it is shown") {
  const TemporaryFolder folder;
  const std::string jpeg = jpeg_of(smooth_clip(1, 64, 64)[0]);
  write_bytes(folder / "phone.jpg", with_orientation(jpeg, 6));
  write_bytes(folder / "stored.jpg", jpeg);
  write_png(folder / "upright.png", as_oriented(read_still(folder / "stored.jpg"), 6));
  std::vector<at::Tensor> latents;
  for (const std::string name : {"phone.jpg", "upright.png", "stored.jpg"}) {
    const ProgramResult run = run_longtake(quick_generate(folder / "x.safetensors", {"--image", folder / name, "--end-image", folder / name}));
    INFO(run.err);
    REQUIRE(run.status == 0);
    latents.push_back(tensor_of(folder / "x.safetensors", "latents0"));
  }
  CHECK(at::equal(latents[0], latents[1]));
  CHECK_FALSE(at::equal(latents[0], latents[2]));
}

TEST_CASE("an image of another size is fitted, and the program says so") {
  const TemporaryFolder folder;
  write_png(folder / "wide.png", smooth_clip(1, 100, 200)[0]);
  const ProgramResult run = run_longtake(quick_generate(folder / "x.mp4", {"--image", folder / "wide.png"}));
  INFO(run.err);
  REQUIRE(run.status == 0);
  CHECK_THAT(run.err, ContainsSubstring("100x200 cut to 100x100, scaled to 64x64"));
  const ProgramResult inspected = run_longtake({"inspect", folder / "x.mp4"});
  CHECK(nlohmann::json::parse(inspected.out)["made_with"]["settings"]["conditioning"]["image"] == (folder / "wide.png").string());
}

TEST_CASE("an interrupted run with an image goes on with the same picture alone") {
  const TemporaryFolder folder;
  const fs::path image = folder / "image.png", moved = folder / "moved.png", out = folder / "x.safetensors", log = folder / "log";
  write_png(image, smooth_clip(1, 64, 64)[0]);
  const std::vector<std::string> more = {"--image", image, "--frames", "41", "--set", "sampling.window=25", "--set", "sampling.overlap=9",
                                         "--steps", "6"};
  REQUIRE(run_longtake(quick_generate(folder / "whole.safetensors", more)).status == 0);
  std::vector<std::string> logged = more;
  logged.insert(logged.end(), {"--json-log", log});
  {
    RunningProgram program(quick_generate(out, logged));
    while (program.running() && read_bytes(log).find("\"row\":6,") == std::string::npos) {
    }
    program.send(SIGKILL);
    REQUIRE(program.wait().status == 128 + SIGKILL);
  }
  const std::string bytes = read_bytes(image);
  write_png(image, smooth_clip(2, 64, 64)[1]);
  check_run({"generate", "--resume", "-o", out}, 3, "--image");
  fs::remove(image);
  check_run({"generate", "--resume", "-o", out}, 3, "no such file");
  check_run({"generate", "--resume", "-o", out, "--image", ""}, 3, "--image");
  write_bytes(moved, bytes);
  const ProgramResult last = run_longtake({"generate", "--resume", "-o", out, "--image", moved});
  INFO(last.err);
  REQUIRE(last.status == 0);
  for (const std::string name : {"frames", "latents0", "latents1"})
    CHECK(at::equal(tensor_of(out, name), tensor_of(folder / "whole.safetensors", name)));
}

TEST_CASE("an end image changes the last window alone, with any chunk size, and is not shown") {
  const TemporaryFolder folder;
  const fs::path image = draw(folder), usual = folder / "usual.safetensors", out = folder / "x.safetensors";
  for (const auto& more : std::vector<std::vector<std::string>>{
           {"--chunk", "1"}, {"--chunk", "5"}, {"--policy", "none"}, {"--frames", "41", "--set", "sampling.window=25", "--set", "sampling.overlap=9"}}) {
    INFO(more[0] << " " << more[1]);
    REQUIRE(run_longtake(quick_generate(usual, more)).status == 0);
    std::vector<std::string> ending = more;
    ending.insert(ending.end(), {"--end-image", image});
    const ProgramResult run = run_longtake(quick_generate(out, ending));
    INFO(run.err);
    REQUIRE(run.status == 0);
    CHECK(tensor_of(out, "frames").sizes() == tensor_of(usual, "frames").sizes());
    CHECK_FALSE(at::equal(tensor_of(out, "frames"), tensor_of(usual, "frames")));
    if (more.size() > 2) {
      CHECK(at::equal(tensor_of(out, "latents0"), tensor_of(usual, "latents0")));
      CHECK_FALSE(at::equal(tensor_of(out, "latents1"), tensor_of(usual, "latents1")));
    }
  }
}

TEST_CASE("a run with a first and a last picture is taken up in its last window, with the same pictures alone") {
  const TemporaryFolder folder;
  const fs::path first = folder / "first.png", last = folder / "last.png", out = folder / "x.safetensors", log = folder / "log";
  write_png(first, smooth_clip(1, 64, 64)[0]);
  write_png(last, smooth_clip(9, 80, 64)[8]);
  const std::vector<std::string> more = {"--image", first, "--end-image", last, "--frames", "37", "--set", "sampling.window=25", "--set",
                                         "sampling.overlap=9", "--steps", "6", "--json-log", log};
  const ProgramResult whole = run_longtake(quick_generate(folder / "whole.safetensors", more));
  INFO(whole.err);
  REQUIRE(whole.status == 0);
  CHECK_THAT(whole.err, ContainsSubstring("the end image") && ContainsSubstring("80x64 cut to 64x64"));
  fs::remove(log);
  RunningProgram program(quick_generate(out, more));
  while (program.running() && read_bytes(log).find("\"window\":1,\"row\":2,") == std::string::npos) {
  }
  program.send(SIGINT);  // which writes the state behind this row
  REQUIRE(program.wait().status == 130);
  const std::string bytes = read_bytes(last);
  write_png(last, smooth_clip(1, 64, 64)[0]);
  check_run({"generate", "--resume", "-o", out}, 3, "the file of --end-image");
  write_bytes(last, bytes);
  const ProgramResult resumed = run_longtake({"generate", "--resume", "-o", out});
  INFO(resumed.err);
  REQUIRE(resumed.status == 0);
  for (const std::string name : {"frames", "latents0", "latents1"})
    CHECK(at::equal(tensor_of(out, name), tensor_of(folder / "whole.safetensors", name)));
}

TEST_CASE("slips with images are explained, and nothing is written") {
  const TemporaryFolder folder;
  const fs::path out = folder / "never.mp4";
  write_bytes(folder / "text.png", "hello\n");
  write_png(folder / "ok.png", smooth_clip(1, 64, 64)[0]);
  check_run(quick_generate(out, {"--image", folder / "none.png"}), 3, "no such file");
  check_run(quick_generate(out, {"--image", folder / "text.png"}), 3, "no picture");
  check_run(quick_generate(out, {"--image", folder / "ok.png", "--frames", "1"}), 2, "nothing is left to generate");
  check_run(quick_generate(out, {"--image", folder / "ok.png", "--parity", "skyreels-ref", "--policy", "none", "--chunk", "5"}), 2, "--chunk 1");
  check_run(quick_generate(out, {"--end-image", folder / "none.png"}), 3, "no such file");
  check_run(quick_generate(out, {"--end-image", folder / "ok.png", "--kv", "stream:2"}), 2, "leave out --kv or --end-image");
  check_run(quick_generate(out, {"--end-image", folder / "ok.png", "--parity", "skyreels-ref", "--policy", "none", "--chunk", "1"}), 2,
                "has no --end-image");
  CHECK(folder.names().size() == 2);
}
