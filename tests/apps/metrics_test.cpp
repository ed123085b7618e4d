// longtake metrics on pairs and folders, with clips whose content is known.
#include <ATen/TensorOperators.h>
#include <torch/csrc/jit/api/module.h>

#include <nlohmann/json.hpp>

#include "models/weights/safetensors.h"
#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/writer.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

void save_clip(const std::filesystem::path& path, const at::Tensor& frames) {
  save_safetensors(path, {{"frames", frames}}, {});
}

nlohmann::json json_of(const ProgramResult& run) {
  INFO(run.err);
  REQUIRE((run.status == 0 || run.status == 6));
  return nlohmann::json::parse(run.out);
}

}  // namespace

TEST_CASE("metrics aligns two folders by file name and lists what has no partner") {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "a");
  std::filesystem::create_directories(folder / "b");
  const at::Tensor clip = smooth_clip(4, 32, 48);
  save_clip(folder / "a/same.safetensors", clip), save_clip(folder / "b/same.safetensors", clip);
  save_clip(folder / "a/other.safetensors", clip),
      save_clip(folder / "b/other.safetensors", (clip.to(at::kInt) / 2).to(at::kByte));
  save_clip(folder / "a/mine.safetensors", clip), save_clip(folder / "b/theirs.safetensors", clip);
  write_bytes(folder / "a/notes.txt", "not a video");
  const ProgramResult run = run_longtake({"metrics", folder / "a", folder / "b"});
  CHECK(run.status == 0);
  const auto json = json_of(run);
  REQUIRE(json["pairs"].size() == 2);
  CHECK(json["pairs"][0]["name"] == "other.safetensors");
  CHECK(json["pairs"][1]["psnr"] == 100);
  CHECK(json["pairs"][0]["ssim"].get<double>() < 0.99);
  CHECK(std::abs(json["mean"]["psnr"].get<double>() - (100 + json["pairs"][0]["psnr"].get<double>()) / 2) < 1e-9);
  CHECK(json["mean"]["videos"] == 2);
  CHECK(json["unmatched"]["only_in_a"] == nlohmann::json{"mine.safetensors"});
  CHECK(json["unmatched"]["only_in_b"] == nlohmann::json{"theirs.safetensors"});
}

TEST_CASE("metrics goes on past a pair that does not fit, and says so") {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "a");
  std::filesystem::create_directories(folder / "b");
  for (const char* side : {"a/x.safetensors", "b/x.safetensors", "a/short.safetensors"})
    save_clip(folder / side, smooth_clip(4, 32, 48));
  save_clip(folder / "b/short.safetensors", smooth_clip(3, 32, 48));
  write_bytes(folder / "a/broken.mp4", "no video"), write_bytes(folder / "b/broken.mp4", "no video");
  const ProgramResult run = run_longtake({"metrics", folder / "a", folder / "b"});
  CHECK(run.status == 6);
  CHECK_THAT(run.err, ContainsSubstring("2 files could not be measured"));
  const auto json = json_of(run);
  CHECK(json["pairs"].size() == 1);
  REQUIRE(json["failed"].size() == 2);
  CHECK_THAT(json["failed"][1]["error"].get<std::string>(), ContainsSubstring("4 frames") && ContainsSubstring("3 of"));
}

TEST_CASE("metrics refuses folders and files that do not go together") {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "a");
  std::filesystem::create_directories(folder / "b");
  save_clip(folder / "a/x.safetensors", smooth_clip(2, 32, 32));
  const auto refused = [&](const std::vector<std::string>& arguments, int status, const std::string& said) {
    const ProgramResult run = run_longtake(arguments);
    INFO(run.err);
    CHECK(run.status == status);
    CHECK_THAT(run.err, ContainsSubstring(said));
    CHECK(run.out == "");
  };
  refused({"metrics", folder / "a", folder / "b"}, 3, "holds no videos");
  save_clip(folder / "b/y.safetensors", smooth_clip(2, 32, 32));
  refused({"metrics", folder / "a", folder / "b"}, 2, "x.safetensors and y.safetensors");
  refused({"metrics", folder / "a", folder / "a/x.safetensors"}, 2, "two folders");
  refused({"metrics", folder / "a/x.safetensors", folder / "none.mp4"}, 3, "none.mp4");
  refused({"metrics", folder / "a/x.safetensors", "--lpips", folder / "m.pt"}, 2, "two videos");
  refused({"metrics", folder / "a/x.safetensors", folder / "b/y.safetensors", "--lpips", folder / "m.pt"}, 3, "m.pt");
  refused({"metrics", folder / "a/x.safetensors", "--seams", "1,x"}, 2, "--seams");
  refused({"metrics", folder / "a/x.safetensors", "--seams", "2"}, 2, "outside the video");
}

TEST_CASE("metrics of one folder is a list, with the share that follows its prompt") {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "a");
  save_clip(folder / "a/x.safetensors", smooth_clip(3, 32, 32));
  save_clip(folder / "a/y.safetensors", smooth_clip(3, 32, 32));
  const auto json = json_of(run_longtake({"metrics", folder / "a"}));
  CHECK(json["videos"].size() == 2);
  CHECK(json["follows_share"].is_null());
  const auto asked = json_of(run_longtake({"metrics", folder / "a", "--prompt", "a red circle"}));
  CHECK(asked["follows_share"].is_number());
}

TEST_CASE("metrics takes LPIPS weights and borders") {
  const TemporaryFolder folder;
  torch::jit::Module module("m");
  module.define("def forward(self, a, b):\n    return (a - b).abs().mean([1, 2, 3])\n");
  module.save((folder / "m.pt").string());
  const at::Tensor clip = smooth_clip(6, 32, 32);
  save_clip(folder / "x.safetensors", clip), save_clip(folder / "y.safetensors", 255 - clip);
  const auto json = json_of(run_longtake(
      {"metrics", folder / "x.safetensors", folder / "y.safetensors", "--lpips", folder / "m.pt", "--seams", "2,4"}));
  const double expected = ((2 * clip.to(at::kDouble) - 255) / 127.5).abs().mean().item<double>();
  CHECK(std::abs(json["against"]["lpips"].get<double>() - expected) < 1e-5);
  CHECK(json["against"]["lpips_by_frame"].size() == 6);
  CHECK(json["seams"]["windows"].size() == 2);
  CHECK(json["against"]["seams"]["windows"][1]["frame"] == 4);
  CHECK(json["seams"]["largest"]["luma"] > 0);
}
