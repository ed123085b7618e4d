// MAGI-1 runs on Wan's VAE, whose first latent frame is one frame: lengths, given frames, and frames that continue each other.
#include "runtime/magi_codec.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <c10/core/InferenceMode.h>

#include "base/error.h"
#include "models/demo/clips.h"
#include "runtime/magi_engine.h"
#include "runtime/magi_recipe.h"
#include "tests/catch.h"
#include "tests/models/magi_folder.h"
#include "tests/refused.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

const ModelTarget kCpu{at::kCPU, at::kFloat};
constexpr uint64_t kSeed = 3;

// Chunks of two latent frames, 32 x 48 pixels, no special rows; random weights.
Recipe wan_recipe() {
  Recipe r = *magi_recipe_of_folder(test::MagiFolder(/*distilled=*/true).path());
  Architecture& a = r.architecture;
  a.latent_channels = 16, a.vae_stages = {8, 16, 32, 64}, a.vae_blocks = 1, a.umt5 = true;
  for (FileLayout& layout : r.layouts) layout.special_tokens.clear();
  r.defaults.push_back({"video.frames", "13", "test"});
  r.defaults.push_back({"sampling.special_tokens", "none", "test"});
  return r;
}

MagiRequest request_of(const std::vector<std::string>& set = {}) {
  const Recipe recipe = wan_recipe();
  OptionSet options;
  options.apply_recipe(recipe.defaults);
  options.set("prompt=a red circle over grass"), options.set("seed=5");
  for (const std::string& assignment : set) options.set(assignment);
  return make_magi_request(recipe, options.values());
}

struct Video {
  at::Tensor latents, frames;
};

Video run(const MagiRequest& request) {
  const c10::InferenceMode inference;
  MagiEngine engine({wan_recipe(), {}, "no files"}, kCpu, {}, kSeed);
  engine.encode(request.prompts);
  Video video;
  std::vector<at::Tensor> frames;
  GenerateHooks hooks;
  hooks.on_latents = [&](int, const at::Tensor& latents) { video.latents = latents.clone(); };
  hooks.on_frames = [&](const at::Tensor& x) { frames.push_back(x.clone()); };
  engine.run(request, hooks);
  video.frames = at::cat(frames, 1);
  CHECK(video.frames.size(1) == request.frames());
  return video;
}

// What the VAE makes of all latents at once.
at::Tensor whole(const at::Tensor& latents) {
  const c10::InferenceMode inference;
  return random_magi_codec(wan_recipe(), kCpu, kSeed)->decoder()->decode(latents);
}

std::string told(const std::vector<std::string>& set) {
  try {
    request_of(set);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::usage);
    return error.what();
  }
  return "";
}

bool close(const at::Tensor& a, const at::Tensor& b) { return a.sizes() == b.sizes() && (a - b).abs().max().item<double>() < 1e-4; }

// The first frames of a clip, in the run's size.
at::Tensor clip(int frames) {
  return demo::Clip({}, demo::Start::beginning, 1).frames(0, frames).narrow(2, 40, 32).narrow(3, 40, 48).contiguous();
}

}  // namespace

TEST_CASE("MAGI-1 on Wan's VAE: chunks are decoded as one clip, whose first frame stands alone") {
  MagiRequest request = request_of();
  const Video video = run(request);
  CHECK(video.latents.size(1) == 4);
  CHECK(video.frames.sizes().vec() == std::vector<int64_t>{3, 13, 32, 48});
  CHECK(close(video.frames, whole(video.latents)));
  request.run.decode_ahead = true;
  CHECK(at::equal(run(request).frames, video.frames));
  CHECK(run(request_of({"video.frames=21"})).frames.size(1) == 21);
}

TEST_CASE("MAGI-1 on Wan's VAE begins with a picture and goes on from a video") {
  const c10::InferenceMode inference;
  const auto codec = random_magi_codec(wan_recipe(), kCpu, kSeed);
  MagiRequest picture = request_of({"conditioning.image=x.png"});
  picture.given = clip(1);
  const Video shown = run(picture);
  CHECK(shown.latents.size(1) == 4);
  CHECK(shown.frames.size(1) == 13);
  CHECK(close(shown.latents.narrow(1, 0, 1), codec->encode(picture.given)));
  CHECK(close(shown.frames.narrow(1, 0, 1), whole(codec->encode(picture.given))));
  // 9 frames are 3 latent frames, one and a half chunks; 5 more end the fourth chunk.
  MagiRequest video = request_of({"conditioning.video=x.mp4", "conditioning.context=9", "conditioning.add=0.8"});
  video.given = clip(9);
  const Video behind = run(video);
  CHECK(behind.latents.size(1) == 8);
  CHECK(behind.frames.size(1) == 20);
  CHECK(close(behind.latents.narrow(1, 0, 3), codec->encode(video.given)));
  CHECK(close(behind.frames, whole(behind.latents).narrow(1, 9, 20)));
}

TEST_CASE("MAGI-1 on Wan's VAE: fewer latents at once make the same frames") {
  CHECK(request_of().decode_latents == 2);  // a chunk's
  CHECK(request_of({"run.decode_latents=1"}).decode_latents == 1);
  CHECK(request_of({"run.decode_latents=7"}).decode_latents == 2);
  const std::vector<std::string> behind = {"conditioning.video=x.mp4", "conditioning.context=9", "conditioning.add=0.8"};
  for (const std::vector<std::string>& set : {std::vector<std::string>{}, behind}) {
    MagiRequest request = request_of(set);
    if (request.given_frames > 0) request.given = clip(request.given_frames);
    const Video whole_chunks = run(request);
    request.decode_latents = 1;
    const Video one_by_one = run(request);
    CHECK(at::equal(one_by_one.latents, whole_chunks.latents));
    CHECK(close(one_by_one.frames, whole_chunks.frames));
  }
}

TEST_CASE("MAGI-1 on Wan's VAE: lengths and settings that do not fit are refused") {
  CHECK_THAT(told({"video.frames=16"}), ContainsSubstring("3 less than a multiple of 8") && ContainsSubstring("use 13 or 21"));
  CHECK_THAT(told({"video.frames=1"}), ContainsSubstring("use 5"));
  CHECK_THAT(told({"sampling.special_tokens=high_quality"}), ContainsSubstring("has no special rows"));
  CHECK(request_of({"video.duration=0.5"}).frames() == 13);  // 12 frames at 24 fps
  CHECK(random_magi_codec(wan_recipe(), kCpu, kSeed)->patch() == 8);
  CHECK(magi_codec_flops(wan_recipe(), 128, 128, 93) > magi_codec_flops(wan_recipe(), 128, 128, 21));
}

TEST_CASE("a recipe of MAGI-1 may do without special rows, and say that its VAE is Wan's") {
  test::TempFolder folder;
  const auto read = [&](const std::string& rest) {
    test::write_file(folder / "x.yaml", "layouts: {a: {transformer: t, vae: ../v, text_encoder: e, tokenizer: k}}\n" + rest);
    return read_recipe(folder / "x.yaml");
  };
  const std::string none = "defaults: {sampling: {special_tokens: none}}\n";
  const Recipe wan = read("architecture: {family: magi-1, vae_stages: [8, 16, 32, 64], vae_blocks: 1, umt5: true}\n" + none);
  CHECK(has_wan_vae(wan));
  CHECK_FALSE(has_special_rows(wan));
  CHECK(magi_missing_frames(wan) == 3);
  CHECK(wan.architecture.umt5);
  const Recipe own = read("architecture: {family: magi-1, vae_dim: 256}\n" + none);
  CHECK_FALSE(has_wan_vae(own));
  CHECK(magi_missing_frames(own) == 0);
  CHECK_THAT(refused([&] { read("architecture: {family: magi-1}\n"); }), ContainsSubstring("special_tokens: none"));
}
