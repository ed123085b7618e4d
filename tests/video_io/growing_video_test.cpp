// A video that grows in fragments and is finished without encoding anything again.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/reader.h"
#include "video_io/writer.h"

using namespace longtake;

namespace {

VideoWriterOptions options(const TemporaryFolder& folder, int fps = 16) {
  VideoWriterOptions o;
  o.path = folder / "clip.mp4";
  o.growing = folder / "growing.mp4";
  o.width = 48;
  o.height = 32;
  o.fps = fps;
  o.preset = "medium";
  return o;
}

}  // namespace

TEST_CASE("what was pushed can be played while the video grows") {
  const TemporaryFolder folder;
  const int fps = GENERATE(1, 16, 24, 60);
  const at::Tensor clip = smooth_clip(90, 32, 48);
  VideoWriter writer(options(folder, fps));
  CHECK(writer.playable() == 0);
  int64_t at = 0, seen = 0;
  for (const int64_t n : {17, 20, 1, 2, 3, 20, 20, 7}) {
    writer.push(clip.narrow(0, at, n));
    at += n;
    const int64_t playable = writer.playable();
    CHECK(playable >= seen);
    CHECK(at - playable < std::max(8, fps / 2));  // what waits for its fragment is short
    seen = playable;
    if (playable > 0) CHECK(read_video(folder / "growing.mp4").size(0) == playable);
  }
  CHECK_FALSE(std::filesystem::exists(folder / "clip.mp4"));
  writer.finish();
  const VideoInfo info = probe(folder / "clip.mp4");
  CHECK(info.frames == 90);
  CHECK(info.fps_numerator == fps);
  CHECK(info.fps_denominator == 1);
  CHECK(std::abs(info.duration - 90.0 / fps) < 1e-6);
  // Nothing was encoded again: the same pictures in both files.
  CHECK(read_video(folder / "clip.mp4").equal(read_video(folder / "growing.mp4")));
  const std::string bytes = read_bytes(folder / "clip.mp4");
  CHECK(bytes.find("moov") < bytes.find("mdat"));
  CHECK(bytes.find("moof") == std::string::npos);
}

TEST_CASE("fragments cost no quality") {
  const TemporaryFolder folder;
  const at::Tensor clip = smooth_clip(60, 32, 48);
  VideoWriter writer(options(folder));
  for (int64_t at = 0; at < 60; at += 20) writer.push(clip.narrow(0, at, 20));
  writer.finish();
  const at::Tensor back = read_video(folder / "clip.mp4");
  REQUIRE(back.sizes() == clip.sizes());
  CHECK((back.to(at::kFloat) - clip.to(at::kFloat)).abs().mean().item<float>() < 4);
}

TEST_CASE("the finished file has the tags that are known at the end") {
  const TemporaryFolder folder;
  VideoWriterOptions o = options(folder);
  o.tags = record_tags({{"prompt", "first"}});
  VideoWriter writer(o);
  writer.push(smooth_clip(20, 32, 48));
  CHECK(tags_record(probe(folder / "growing.mp4").tags).value()["prompt"] == "first");
  writer.finish(record_tags({{"prompt", "last"}, {"part", {{"frames", 20}}}}));
  const auto record = tags_record(probe(folder / "clip.mp4").tags);
  REQUIRE(record);
  CHECK((*record)["prompt"] == "last");
  CHECK((*record)["part"]["frames"] == 20);
}

TEST_CASE("a growing video that is left stays playable up to its last fragment") {
  const TemporaryFolder folder;
  {
    VideoWriter writer(options(folder));
    writer.push(smooth_clip(20, 32, 48));
    writer.push(smooth_clip(3, 32, 48));
  }
  CHECK(read_video(folder / "growing.mp4").size(0) == 20);
  CHECK_FALSE(std::filesystem::exists(folder / "clip.mp4"));
  VideoWriter again(options(folder));  // begins anew over the old one
  again.push(smooth_clip(10, 32, 48));
  again.finish();
  CHECK(probe(folder / "clip.mp4").frames == 10);
}
