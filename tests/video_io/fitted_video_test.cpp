// Videos of other rates and sizes as the beginning of a new one.
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/video_io/phone_files.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/fitted_video.h"
#include "video_io/writer.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

// A clip whose frame t is a plain grey of level 4t + 20.
std::filesystem::path counting_clip(const TemporaryFolder& folder, int frames, int fps) {
  const auto path = folder / "clip.mp4";
  VideoWriter writer({.path = path, .width = 64, .height = 48, .fps = fps, .crf = 1});
  for (int t = 0; t < frames; ++t) writer.push(at::zeros({1, 48, 64, 3}, at::kByte).add_(4 * t + 20));
  writer.finish();
  return path;
}

std::vector<int> shown(const FittedVideo& video) {
  std::vector<int> out;
  video.read([&](const at::Tensor& frames) {
    CHECK(frames.size(0) <= 32);
    for (int64_t i = 0; i < frames.size(0); ++i)
      out.push_back(static_cast<int>(std::lround((frames[i].to(at::kFloat).mean().item<double>() - 20) / 4)));
  });
  return out;
}

}  // namespace

TEST_CASE("a video at its own rate and size is shown as it is") {
  const TemporaryFolder folder;
  const FittedVideo video(counting_clip(folder, 40, 24), 48, 64, 24, 5);
  CHECK(video.frames() == 40);
  CHECK(video.last().sizes() == at::IntArrayRef({5, 48, 64, 3}));
  std::vector<at::Tensor> parts;
  video.read([&](const at::Tensor& frames) { parts.push_back(frames.clone()); });
  CHECK(at::equal(at::cat(parts), read_video(folder / "clip.mp4")));
  CHECK(at::equal(video.last(), read_video(folder / "clip.mp4").narrow(0, 35, 5)));
  CHECK(video.note() == "24 fps, 48x64; 40 frames");
}

TEST_CASE("a video that is stored lying is stood up before it is cut and scaled") {
  const TemporaryFolder folder;
  VideoWriter writer({.path = folder / "lying.mp4", .width = 96, .height = 64, .fps = 16});
  writer.push(smooth_clip(5, 64, 96));
  writer.finish();
  const at::Tensor stored = read_video(folder / "lying.mp4");
  for (const auto& [clockwise, orientation] : {std::pair(0, 1), std::pair(90, 6), std::pair(180, 3), std::pair(270, 8)}) {
    INFO(clockwise);
    write_bytes(folder / "phone.mp4", turned_mp4(read_bytes(folder / "lying.mp4"), clockwise));
    const at::Tensor shown = as_oriented(stored, orientation);
    const VideoInfo info = probe(folder / "phone.mp4");
    CHECK(info.height == shown.size(1));
    CHECK(info.width == shown.size(2));
    CHECK(at::equal(read_video(folder / "phone.mp4"), shown));
    const FittedVideo video(folder / "phone.mp4", 32, 48, 16, 2);
    CHECK(at::equal(video.last(), FrameFit(info.height, info.width, 32, 48)(shown.narrow(0, 3, 2))));
  }
}

TEST_CASE("other rates leave frames out or repeat them, and end with the last one") {
  const TemporaryFolder folder;
  const auto path = counting_clip(folder, 30, 30);
  const FittedVideo slower(path, 32, 32, 10, 100);
  CHECK(shown(slower) == std::vector<int>{1, 4, 7, 10, 13, 16, 19, 22, 25, 28});
  CHECK(slower.last().size(0) == 10);
  CHECK_THAT(slower.note(), ContainsSubstring("30 fps, 48x64 cut to 48x48, scaled to 32x32; 10 frames at 10 fps"));
  const FittedVideo uneven(path, 32, 32, 24, 1);
  CHECK(uneven.frames() == 24);
  CHECK(shown(uneven).back() == 29);
  const FittedVideo faster(path, 32, 32, 60, 1);
  const std::vector<int> twice = shown(faster);
  REQUIRE(twice.size() == 60);
  for (int i = 0; i < 60; ++i) CHECK(twice[i] == i / 2);
}

TEST_CASE("a video shorter than a frame of the new rate has one") {
  const TemporaryFolder folder;
  const FittedVideo video(counting_clip(folder, 1, 60), 32, 32, 10, 9);
  CHECK(video.frames() == 1);
  CHECK(shown(video) == std::vector<int>{0});
}

TEST_CASE("a file that is no video, or changes while it is read, is refused") {
  const TemporaryFolder folder;
  write_bytes(folder / "text.mp4", "hello\n");
  CHECK_THROWS_AS(FittedVideo(folder / "text.mp4", 32, 32, 24, 5), Error);
  CHECK_THROWS_AS(FittedVideo(folder / "none.mp4", 32, 32, 24, 5), Error);
  const FittedVideo video(counting_clip(folder, 30, 24), 32, 32, 24, 5);
  counting_clip(folder, 20, 24);
  CHECK_THROWS_WITH(video.read([](const at::Tensor&) {}), ContainsSubstring("has changed"));
}
