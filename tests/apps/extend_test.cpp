// Going on from the end of a video, end to end.
#include <ATen/ops/equal.h>
#include <signal.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/model.h"
#include "tests/apps/conditioned.h"
#include "tests/video_io/phone_files.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/frames.h"
#include "video_io/reader.h"
#include "video_io/seams.h"
#include "video_io/writer.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

// Half a second (8 frames) behind a video, at 64x64 and the demo model's 16 frames a second.
std::vector<std::string> extend(const fs::path& video, const fs::path& out, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"extend", video,  "-m",      "demo",  "-p",      "a red circle moves up over grass", "--add", "0.5",
                                        "-o",     out,    "--seed",  "1",     "--size",  "64x64",
                                        "--steps", "4",   "--chunk", "2",     "--set",   "sampling.ar_step=1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

fs::path scene(const TemporaryFolder& folder) {
  REQUIRE(run_longtake(quick_generate(folder / "scene.mp4", {"--steps", "12", "--crf", "5"})).status == 0);
  return folder / "scene.mp4";
}

// Colour waves that drift, at a rate and of a shape that the model has not.
fs::path camera_clip(const TemporaryFolder& folder, int frames, const std::string& name = "camera.mp4") {
  VideoWriter writer({.path = folder / name, .width = 160, .height = 96, .fps = 30, .crf = 10});
  writer.push(smooth_clip(frames, 96, 160));
  writer.finish();
  return folder / name;
}

}  // namespace

TEST_CASE("an extension shows the video's own frames, then new ones that were decoded behind them") {
  const TemporaryFolder folder;
  const fs::path video = scene(folder), out = folder / "x.safetensors";
  const at::Tensor before = read_video(video);
  REQUIRE(before.size(0) == 17);
  const WanVae vae = load_vae(resolve_model("demo", default_search()).require_files(), {});
  for (const auto& more : std::vector<std::vector<std::string>>{{"--chunk", "1"},
                                                                {"--chunk", "5"},
                                                                {"--policy", "none"},
                                                                {"--context", "9"},
                                                                {"--set", "sampling.history=carry"}}) {
    INFO(more[0] << " " << more[1]);
    const int64_t context = more[0] == "--context" ? 9 : 17;
    check_run(extend(video, out, more), 0, fmt::format("goes on from the last {}", context));
    const at::Tensor frames = tensor_of(out, "frames"), latents = tensor_of(out, "latents0");
    REQUIRE(frames.size(0) == 17 + 8);
    CHECK(at::equal(frames.narrow(0, 0, 17), before));
    const at::Tensor encoded = vae.encode(from_frames(before.narrow(0, 17 - context, context)).unsqueeze(0)).squeeze(0);
    CHECK((latents.narrow(1, 0, encoded.size(1)) - encoded).abs().max().item<float>() < 1e-4);
    const at::Tensor decoded = to_frames(vae.decode(latents.unsqueeze(0)).squeeze(0));
    CHECK(psnr(frames.narrow(0, 17, 8), decoded.narrow(0, context, 8)) > 55);
    const SeamReport seams = measure_seams(frames, {{17}, {}});
    INFO(seam_json(seams).dump());
    CHECK(seams.windows[0].luma_step < 8);
    CHECK(seams.windows[0].chroma_step < 8);
  }
}

TEST_CASE("a video of another size and rate is fitted, and the program and the file say so") {
  const TemporaryFolder folder;
  const fs::path video = camera_clip(folder, 45), out = folder / "x.safetensors", mp4 = folder / "x.mp4";
  check_run(extend(video, out), 0, "30 fps, 96x160 cut to 96x96, scaled to 64x64; 24 frames at 16 fps; the model goes on from the last 17");
  const at::Tensor frames = tensor_of(out, "frames");
  REQUIRE(frames.size(0) == 24 + 8);
  // What the VAE makes of such a picture by itself (the demo model's was trained on others) and a step of motion, no more.
  const WanVae vae = load_vae(resolve_model("demo", default_search()).require_files(), {});
  const at::Tensor context = frames.narrow(0, 7, 17);
  const at::Tensor round_trip = to_frames(vae.decode(vae.encode(from_frames(context).unsqueeze(0))).squeeze(0));
  const double own = (round_trip[16].to(at::kFloat) - context[16].to(at::kFloat)).abs().mean().item<double>();
  const SeamReport seams = measure_seams(frames, {{24}, {}});
  INFO("round trip " << own << ", seams " << seam_json(seams).dump());
  CHECK(seams.windows[0].luma_step < own + 2 * seams.median_luma);
  CHECK(seams.windows[0].chroma_step < own + 2 * seams.median_chroma);
  check_run(extend(video, out, {"--only-new"}), 0, "goes on");
  CHECK(at::equal(tensor_of(out, "frames"), frames.narrow(0, 24, 8)));
  check_run(extend(video, mp4, {"--keep-run"}), 0, "goes on");
  CHECK(psnr(read_video(mp4), frames) > 35);
  const auto about = nlohmann::json::parse(run_longtake({"inspect", mp4}).out)["made_with"];
  CHECK(about["extends"] == nlohmann::json{{"file", "camera.mp4"}, {"context", 17}, {"only_new", false}, {"frames", 24}});
  const auto metrics = nlohmann::json::parse(run_longtake({"metrics", mp4}).out);
  CHECK(metrics["seams"]["windows"][0]["frame"] == 24);

  // Metadata that cannot be true give no borders, and no error.
  std::string bytes = read_bytes(mp4);
  const size_t at = bytes.find("\"context\":17");
  REQUIRE(at != std::string::npos);
  write_bytes(folder / "odd.mp4", bytes.replace(at, 12, "\"context\":-7"));
  const auto odd = nlohmann::json::parse(run_longtake({"metrics", folder / "odd.mp4"}).out);
  CHECK(odd["seams"]["windows"].empty());

  // The run folder's latents again, with the video in front or without it.
  check_run({"decode", folder / "x.mp4.run", "-o", folder / "d.safetensors"}, 0, "");
  CHECK(at::equal(tensor_of(folder / "d.safetensors", "frames"), frames));
  check_run({"decode", folder / "x.mp4.run", "-o", folder / "d.safetensors", "--only-new"}, 0, "");
  CHECK(at::equal(tensor_of(folder / "d.safetensors", "frames"), frames.narrow(0, 24, 8)));
}

TEST_CASE("a phone's video goes on as it is shown, not as it is stored") {
  const TemporaryFolder folder;
  const std::string stored = read_bytes(scene(folder));
  write_bytes(folder / "phone.mp4", turned_mp4(stored, 90));
  check_run(extend(folder / "phone.mp4", folder / "x.safetensors"), 0, "goes on from the last 17");
  CHECK(at::equal(tensor_of(folder / "x.safetensors", "frames").narrow(0, 0, 17), as_oriented(read_video(folder / "scene.mp4"), 6)));
}

TEST_CASE("a short video is its own context, and later windows reach back into it") {
  const TemporaryFolder folder;
  const fs::path video = camera_clip(folder, 14), out = folder / "x.safetensors";  // 7 frames at 16 fps
  const ProgramResult run = check_run(extend(video, out, {"--add", "1.3", "--set", "sampling.window=13", "--set", "sampling.overlap=9", "--history", "reencode"}), 0,
                                      "the model goes on from the last 5");
  CHECK_THAT(run.err, ContainsSubstring("1.3 s at 16 fps is 20.8 frames; the nearest that fits is 20 (1.25 s)"));
  const at::Tensor frames = tensor_of(out, "frames");
  CHECK(frames.size(0) == 7 + 20);
  // The second window's prefix is encoded from the nine frames before it: one of the video, eight new.
  const WanVae vae = load_vae(resolve_model("demo", default_search()).require_files(), {});
  const at::Tensor prefix = vae.encode(from_frames(frames.narrow(0, 6, 9)).unsqueeze(0)).squeeze(0).narrow(1, 0, 2);
  const at::Tensor found = tensor_of(out, "latents1").narrow(1, 0, 2);
  CHECK((prefix - found).abs().mean().item<float>() < 0.05);  // 8-bit frames here, exact ones there
}

TEST_CASE("an interrupted extension goes on with the same video alone") {
  const TemporaryFolder folder;
  const fs::path video = camera_clip(folder, 40), out = folder / "x.safetensors", log = folder / "log", moved = folder / "moved.mp4";
  const std::vector<std::string> more = {"--add", "2", "--set", "sampling.window=25", "--set", "sampling.overlap=9", "--steps", "6", "--json-log", log};
  REQUIRE(run_longtake(extend(video, folder / "whole.safetensors", more)).status == 0);
  const auto kill_after = [&](const std::string& mark, int signal) {
    fs::remove(log);
    RunningProgram program(extend(video, out, more));
    while (program.running() && read_bytes(log).find(mark) == std::string::npos) {
    }
    program.send(signal);
    return program.wait();
  };
  REQUIRE(kill_after("\"window\":1,\"row\":2,", SIGKILL).status == 128 + SIGKILL);
  const std::string bytes = read_bytes(video);
  camera_clip(folder, 39);
  check_run({"extend", "--resume", "-o", out}, 3, "the file of --video");
  fs::remove(video);
  check_run({"extend", "--resume", "-o", out}, 3, "no such file");
  write_bytes(moved, bytes);
  check_run({"extend", moved, "--resume", "-o", out, "--context", "5"}, 2, "conditioning.context is '5'");
  check_run({"extend", moved, "--resume", "-o", out}, 0, "");
  for (const std::string name : {"frames", "latents0", "latents1"})
    CHECK(at::equal(tensor_of(out, name), tensor_of(folder / "whole.safetensors", name)));

  write_bytes(video, bytes);
  const ProgramResult stopped = kill_after("\"window\":1,\"row\":2,", SIGINT);
  CHECK(stopped.status == 130);
  CHECK_THAT(stopped.err, ContainsSubstring("of 32 new frames are in") && ContainsSubstring("longtake extend --resume"));
  const at::Tensor part = tensor_of(out, "frames"), whole = tensor_of(folder / "whole.safetensors", "frames");
  CHECK(part.size(0) > 21);
  CHECK(at::equal(part, whole.narrow(0, 0, part.size(0))));
}

TEST_CASE("batches extend videos too") {
  const TemporaryFolder folder;
  const fs::path video = camera_clip(folder, 45);
  write_bytes(folder / "jobs.yaml", "- prompt: a red circle moves up over grass\n  name: longer\n  conditioning:\n    video: " + video.string() + "\n    add: 0.5\n");
  check_run({"batch", folder / "jobs.yaml", "-o", folder / "videos", "--size", "64x64", "--steps", "2"}, 0, "goes on from the last 17");
  CHECK(read_video(folder / "videos" / "longer.mp4").size(0) == 32);

  // Another video under the same name: what was made of the first one is no longer what is asked for.
  const std::vector<std::string> again = {"batch", folder / "jobs.yaml", "-o", folder / "videos", "--size", "64x64", "--steps", "2"};
  CHECK_THAT(run_longtake(again).out, ContainsSubstring("0 made, 1 were done"));
  camera_clip(folder, 48);
  check_run(again, 2, "camera.mp4 has changed since");
  std::vector<std::string> remake = again;
  remake.push_back("--remake");
  CHECK_THAT(run_longtake(remake).out, ContainsSubstring("1 made, 0 were done"));
  fs::remove(video);
  CHECK_THAT(run_longtake(again).out, ContainsSubstring("0 made, 1 were done"));
}

TEST_CASE("slips with extensions are explained, and nothing is written") {
  const TemporaryFolder folder;
  const fs::path video = camera_clip(folder, 20), out = folder / "never.mp4";  // 11 frames at 16 fps
  write_bytes(folder / "text.mp4", "hello\n");
  check_run(extend(folder / "none.mp4", out), 3, "no such file");
  check_run(extend(folder / "text.mp4", out), 3, "text.mp4");
  check_run(extend(video, out, {"--context", "13"}), 2, "has 11 frames at 16 fps, and a context of 13 needs more; use --context 9 or less");
  check_run(extend(video, out, {"--context", "10"}), 2, "4k + 1 frames, got 10; the nearest that do are 9 and 13");
  check_run(extend(video, out, {"--context", "97", "--set", "sampling.window=25"}), 2, "use --context 21 or less");
  check_run(extend(video, out, {"--add", "0"}), 2, "--add SECONDS");
  check_run(extend(video, out, {"--add", "-1"}), 2, "--add: conditioning.add must be seconds");
  check_run(extend(video, out, {"--set", "video.frames=33"}), 2, "--add says");
  check_run(extend(video, out, {"--set", "conditioning.image=x.png"}), 2, "not both");
  check_run({"extend", "-p", "x", "--add", "1", "-o", out}, 2, "no video to go on from");
  check_run(quick_generate(out, {"--set", "conditioning.add=2"}), 2, "longtake extend VIDEO");
  check_run({"compare", "-p", "x", "--policies", "causal", "-o", folder / "c", "--set", "conditioning.video=x.mp4", "--set", "conditioning.add=1"}, 2,
            "goes on from none");
  CHECK(folder.names().size() == 2);
}
