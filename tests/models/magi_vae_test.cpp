#include "models/magi_vae/magi_vae.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <functional>
#include <memory>

#include "models/magi_vae/cost.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/models/random_source.h"
#include "tests/models/vae_checks.h"

using namespace longtake;
using namespace longtake::test;
using Catch::Matchers::ContainsSubstring;

namespace {

// Patches of 2 frames by 4 x 4 pixels, a table of 2 x 4 x 4 positions.
const MagiVaeConfig kSmall = {.video_size = 16,
                              .video_length = 4,
                              .patch_size = 4,
                              .patch_length = 2,
                              .latent_channels = 5,
                              .dim = 64,
                              .depth = 2,
                              .heads = 4,
                              .ffn = 96};
const MagiTiling kTiling = {.size = 4, .overlap = 1, .frames = 3};

MagiVae small_vae(MagiVaeParity parity = {}, at::ScalarType dtype = at::kFloat) {
  MapSource source(random_weights(list_magi_vae_weights(kSmall)), dtype);
  return MagiVae(source, kSmall, parity);
}

// The blend row by row, in another tensor.
at::Tensor fade(const at::Tensor& before, const at::Tensor& tile, int64_t axis, int64_t extent) {
  at::Tensor out = tile.clone();
  extent = std::min({extent, before.size(axis), tile.size(axis)});
  for (int64_t i = 0; i < extent; ++i) {
    const double part = static_cast<double>(i) / static_cast<double>(extent);
    out.select(axis, i).copy_(before.select(axis, before.size(axis) - extent + i) * (1 - part) +
                              tile.select(axis, i) * part);
  }
  return out;
}

}  // namespace

TEST_CASE("MAGI-1's VAE: shapes, stills and samples of a batch") {
  at::NoGradGuard no_grad;
  const MagiVae vae = small_vae();
  const at::Tensor video = random_video({2, 3, 6, 12, 20});
  const at::Tensor moments = vae.encode_moments(video), mean = vae.encode_mean(video);
  REQUIRE(moments.sizes() == at::IntArrayRef({2, 10, 3, 3, 5}));
  CHECK(difference(moments.narrow(1, 0, 5), mean) == 0);
  CHECK(difference(vae.encode(video), mean * kMagiScaleFactor) == 0);
  CHECK(difference(vae.encode_mean(video.narrow(0, 1, 1)), mean.narrow(0, 1, 1)) < 1e-5);

  const at::Tensor frames = vae.decode_mean(mean);
  REQUIRE(frames.sizes() == video.sizes());
  CHECK(frames.scalar_type() == at::kFloat);
  CHECK(difference(vae.decode(mean * kMagiScaleFactor), frames) < 1e-4);

  const at::Tensor image = video.narrow(2, 0, 1);
  const at::Tensor still = vae.encode_mean(image);
  CHECK(difference(still, vae.encode_mean(at::cat({image, image}, 2))) == 0);
  const at::Tensor one = vae.decode_mean(still, MagiClip::still), two = vae.decode_mean(still);
  CHECK(one.size(2) == 1);
  CHECK(two.size(2) == 2);
  CHECK(difference(one, two.narrow(2, 0, 1)) == 0);
}

TEST_CASE("MAGI-1's VAE: the position table stretches to any grid") {
  at::NoGradGuard no_grad;
  auto weights = random_weights(list_magi_vae_weights(kSmall));
  const auto encode = [&](const at::Tensor& video) {
    MapSource source(weights);
    return MagiVae(source, kSmall).encode_mean(video);
  };
  // One row of positions repeated everywhere is the same on every grid: moving the clip by a patch moves the latents.
  at::Tensor& table = weights["encoder.pos_embed"];
  const at::Tensor video = random_video({1, 3, 4, 16, 24});
  const auto moved = [&] { return difference(encode(video.roll(4, 4)), encode(video).roll(1, 4)); };
  CHECK(moved() > 1e-2);
  table.copy_(table.narrow(1, 1, 1).expand({1, 33, 64}).clone());
  CHECK(moved() < 1e-5);
}

TEST_CASE("MAGI-1's VAE: one tile is the whole") {
  at::NoGradGuard no_grad;
  const MagiVae vae = small_vae();
  // A tile keeps `size - overlap` latents: what is no larger needs no second one.
  const at::Tensor video = random_video({1, 3, 6, 12, 8});
  const at::Tensor mean = vae.encode_mean(video);
  CHECK(encode_mean_tiled(vae, video, kTiling).equal(mean));
  CHECK(encode_tiled(vae, video, kTiling).equal(vae.encode(video)));
  CHECK(decode_mean_tiled(vae, mean, kTiling).equal(vae.decode_mean(mean)));
  CHECK(decode_tiled(vae, mean, kTiling).equal(vae.decode(mean)));
  const at::Tensor still = vae.encode_mean(video.narrow(2, 0, 1));
  CHECK(encode_mean_tiled(vae, video.narrow(2, 0, 1), kTiling).equal(still));
  CHECK(decode_mean_tiled(vae, still, kTiling, MagiClip::still).equal(vae.decode_mean(still, MagiClip::still)));
}

TEST_CASE("MAGI-1's VAE: where tiles lie") {
  using Spans = std::vector<MagiTileSpan>;
  CHECK((magi_tile_spans(90, 32, 24) == Spans{{0, 32, 24}, {24, 32, 24}, {48, 32, 24}, {72, 18, 18}}));
  CHECK((magi_tile_spans(24, 32, 24) == Spans{{0, 24, 24}}));
  CHECK((magi_tile_spans(32, 32, 24) == Spans{{0, 32, 24}, {24, 8, 8}}));
  CHECK((magi_tile_spans(7, 3, 3) == Spans{{0, 3, 3}, {3, 3, 3}, {6, 1, 1}}));
}

TEST_CASE("MAGI-1's VAE: tiles are coded alone and blended, bit for bit") {
  at::NoGradGuard no_grad;
  const MagiVae vae = small_vae();
  // 5 x 8 latents: 2 x 3 tiles of 4, 2 rows and 2 columns at the edges. 4 latent frames: 3 + 1.
  const at::Tensor video = random_video({1, 3, 8, 20, 32});
  const auto expect = [&](const at::Tensor& in, bool decode) {
    const int64_t part = decode ? 1 : 4, step = decode ? 1 : 2;  // of the input in a latent (frame)
    const int64_t to_height = decode ? 4 : 1;
    std::vector<at::Tensor> pieces;
    for (const auto& [first, count] : std::vector<std::pair<int64_t, int64_t>>{{0, 3}, {3, 1}}) {
      std::vector<std::vector<at::Tensor>> tiles(2), used(2);
      std::vector<at::Tensor> rows;
      for (int64_t i = 0; i < 2; ++i) {
        std::vector<at::Tensor> row;
        for (int64_t j = 0; j < 3; ++j) {
          const int64_t height = std::min<int64_t>(4, 5 - 3 * i), width = std::min<int64_t>(4, 8 - 3 * j);
          const at::Tensor cut = in.narrow(2, first * step, count * step)
                                     .narrow(3, 3 * i * part, height * part)
                                     .narrow(4, 3 * j * part, width * part);
          const at::Tensor raw = decode ? vae.decode_mean(cut) : vae.encode_mean(cut);
          at::Tensor tile = raw;
          if (i > 0) tile = fade(used[i - 1][j], tile, 3, to_height);
          if (j > 0) tile = fade(used[i][j - 1], tile, 4, to_height);
          used[i].push_back(decode ? raw : tile);
          row.push_back(tile.narrow(3, 0, std::min<int64_t>(3, height) * to_height)
                            .narrow(4, 0, std::min<int64_t>(3, width) * to_height));
        }
        rows.push_back(at::cat(row, 4));
      }
      pieces.push_back(at::cat(rows, 3));
    }
    return at::cat(pieces, 2);
  };
  const at::Tensor mean = encode_mean_tiled(vae, video, kTiling);
  CHECK(mean.equal(expect(video, false)));
  const at::Tensor frames = decode_mean_tiled(vae, mean, kTiling);
  REQUIRE(frames.sizes() == video.sizes());
  CHECK(frames.equal(expect(mean, true)));
  // Without an overlap there is nothing to blend.
  const MagiTiling apart = {.size = 4, .overlap = 0, .frames = 3};
  CHECK(decode_mean_tiled(vae, mean, apart)
            .narrow(2, 0, 6)
            .narrow(3, 0, 16)
            .narrow(4, 16, 16)
            .equal(vae.decode_mean(mean.narrow(2, 0, 3).narrow(3, 0, 4).narrow(4, 4, 4))));
}

TEST_CASE("MAGI-1's VAE: a clip streams in pieces of whole tiles") {
  at::NoGradGuard no_grad;
  const MagiVae vae = small_vae();
  const at::Tensor video = random_video({1, 3, 14, 16, 20});
  const at::Tensor mean = encode_mean_tiled(vae, video, kTiling);
  REQUIRE(mean.size(2) == 7);
  const at::Tensor frames = decode_mean_tiled(vae, mean, kTiling);
  CHECK(at::cat({encode_mean_tiled(vae, video.narrow(2, 0, 6), kTiling),
                 encode_mean_tiled(vae, video.narrow(2, 6, 8), kTiling)},
                2)
            .equal(mean));
  CHECK(at::cat({decode_mean_tiled(vae, mean.narrow(2, 0, 6), kTiling),
                 decode_mean_tiled(vae, mean.narrow(2, 6, 1), kTiling)},
                2)
            .equal(frames));
}

TEST_CASE("MAGI-1's VAE: a tile of one latent frame loses no frames unless asked to") {
  at::NoGradGuard no_grad;
  const MagiVae vae = small_vae(), reference = small_vae({.lone_latent_still = true});
  for (int64_t latents = 1; latents <= 7; ++latents) {
    const at::Tensor mean = random({1, 5, latents, 3, 3});
    const at::Tensor all = decode_mean_tiled(vae, mean, kTiling), fewer = decode_mean_tiled(reference, mean, kTiling);
    CHECK(all.size(2) == 2 * latents);
    CHECK(fewer.size(2) == (latents % 3 == 1 ? 2 * latents - 1 : 2 * latents));
    CHECK(fewer.equal(all.narrow(2, 0, fewer.size(2))));
  }
}

TEST_CASE("MAGI-1's VAE: rounded q, k and v, and bfloat16 weights, stay close to float32") {
  at::NoGradGuard no_grad;
  const at::Tensor video = random_video({1, 3, 4, 16, 16});
  const MagiVae exact = small_vae(), rounded = small_vae({.round_qkv = true}), half = small_vae({}, at::kBFloat16);
  const at::Tensor mean = exact.encode_mean(video), frames = exact.decode_mean(mean);
  CHECK(relative_error(rounded.encode_mean(video), mean) > 1e-5);
  CHECK(relative_error(rounded.encode_mean(video), mean) < 1e-2);
  CHECK(relative_error(half.encode_mean(video), mean) < 5e-2);
  CHECK(relative_error(half.decode_mean(mean), frames) < 5e-2);
  CHECK(half.decode_mean(mean).scalar_type() == at::kFloat);
  CHECK(half.encode_mean(video.to(at::kBFloat16)).scalar_type() == at::kFloat);
}

TEST_CASE("MAGI-1's VAE: gradients reach every weight") {
  std::map<std::string, at::Tensor> weights = random_weights(list_magi_vae_weights(kSmall));
  for (auto& [name, tensor] : weights) tensor.requires_grad_(true);
  MapSource source(weights);
  const MagiVae vae(source, kSmall);
  const at::Tensor moments = vae.encode_moments(random_video({1, 3, 4, 12, 16}));
  (vae.decode_mean(moments.narrow(1, 0, 5)).square().mean() + moments.square().mean()).backward();
  check_gradients(weights);
}

TEST_CASE("MAGI-1's VAE: video to uint8") {
  const at::Tensor video = at::linspace(-1.1, 1.1, 2001, at::kFloat);
  const at::Tensor bytes = magi_video_to_uint8(video);
  CHECK(bytes[0].item<int>() == 0);
  CHECK(bytes[2000].item<int>() == 255);
  CHECK(bytes[1000].item<int>() == 127);
  CHECK((bytes.to(at::kFloat) - (video * 127.5 + 127).clamp(0, 255)).abs().max().item<double>() <= 0.51);
  CHECK((magi_video_to_uint8(video.to(at::kBFloat16)).to(at::kInt) - bytes.to(at::kInt)).abs().max().item<int>() <= 1);
}

TEST_CASE("MAGI-1's VAE: wrong weights are refused by name") {
  const auto weights = random_weights(list_magi_vae_weights(kSmall));
  for (const auto& [name, shape] : list_magi_vae_weights(kSmall)) {
    auto spoiled = weights;
    spoiled.erase(name);
    MapSource missing(spoiled);
    CHECK_THROWS_WITH(MagiVae(missing, kSmall), ContainsSubstring(name));
    spoiled[name] = at::zeros({3, 5, 7});
    MapSource misshapen(spoiled);
    CHECK_THROWS_WITH(MagiVae(misshapen, kSmall), ContainsSubstring(name));
  }
}

TEST_CASE("MAGI-1's VAE: what does not fit is refused with what does") {
  at::NoGradGuard no_grad;
  const MagiVae vae = small_vae();
  const auto video = [](int64_t frames, int64_t height, int64_t width) {
    return at::zeros({1, 3, frames, height, width});
  };
  CHECK_THROWS_WITH(vae.encode_mean(video(5, 8, 8)),
                    ContainsSubstring("multiple of 2 frames") && ContainsSubstring("give 6"));
  CHECK_THROWS_WITH(vae.encode_mean(video(2, 9, 15)), ContainsSubstring("resize it to 16x8"));
  CHECK_THROWS_WITH(vae.encode_mean(video(2, 1, 8)), ContainsSubstring("resize it to 8x4"));
  CHECK_THROWS_WITH(encode_mean_tiled(vae, video(2, 8, 6), kTiling), ContainsSubstring("resize it to 8x8"));
  CHECK_THROWS_WITH(vae.encode_mean(video(2, 8, 8).to(at::kByte)), ContainsSubstring("Byte"));
  CHECK_THROWS_WITH(vae.encode_mean(video(0, 8, 8)), ContainsSubstring("1x3x0x8x8"));
  CHECK_THROWS_WITH(vae.decode_mean(at::zeros({1, 16, 2, 3, 3})), ContainsSubstring("[batch, 5,"));
  CHECK_THROWS_WITH(vae.decode_mean(at::zeros({5, 2, 3, 3})), ContainsSubstring("5x2x3x3"));
  CHECK_THROWS_WITH(decode_tiled(vae, at::zeros({1, 5, 2, 3, 3}), kTiling, MagiClip::still),
                    ContainsSubstring("1 latent frame"));
  for (const MagiTiling& bad : {MagiTiling{.size = 0}, MagiTiling{.size = 4, .overlap = 4},
                                MagiTiling{.size = 4, .overlap = -1}, MagiTiling{.size = 4, .overlap = 1, .frames = 0}})
    CHECK_THROWS_WITH(decode_mean_tiled(vae, at::zeros({1, 5, 2, 3, 3}), bad), ContainsSubstring("tiles"));
}

TEST_CASE("MAGI-1's VAE: operations of the released model, bytes of a small one") {
  const MagiVaeConfig real;
  const MagiTiling tiling = MagiTiling::of(real);
  const auto near = [](double value, double wanted) { return std::abs(value / wanted - 1) < 0.01; };
  CHECK(near(magi_vae_decode_flops(real, tiling, 720, 720, 24), 67.5e12));
  CHECK(near(magi_vae_decode_flops(real, tiling, 720, 1280, 24), 124e12));
  CHECK(near(magi_vae_decode_flops(real, tiling, 480, 832, 24), 54e12));
  CHECK(near(magi_vae_encode_flops(real, tiling, 720, 720, 24), 67.5e12));

  at::NoGradGuard no_grad;
  // Wide layers, so that they outweigh the last convolution as in the released model.
  MagiVaeConfig wide = kSmall;
  wide.ffn = 1024;
  MapSource source(random_weights(list_magi_vae_weights(wide)));
  const MagiVae vae(source, wide);
  const MagiTiling large = {.size = 16, .overlap = 4, .frames = 3};
  const at::Tensor video = random_video({1, 3, 12, 80, 96});
  const at::Tensor mean = encode_mean_tiled(vae, video, large);
  const auto measured = [](const std::function<void()>& call) {
    const auto memory = std::make_shared<PeakMemory>();
    c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, memory);
    call();
    return static_cast<double>(memory->peak);
  };
  const double decode = measured([&] { decode_mean_tiled(vae, mean, large); }) /
                        static_cast<double>(magi_vae_decode_peak_bytes(wide, large, 80, 96, 12, 4));
  const double encode = measured([&] { encode_mean_tiled(vae, video, large); }) /
                        static_cast<double>(magi_vae_encode_peak_bytes(wide, large, 80, 96, 12, 4));
  INFO(decode << " " << encode);
  CHECK(decode > 0.8);
  CHECK(decode < 1.05);
  CHECK(encode > 0.8);
  CHECK(encode < 1.05);
  // In narrow ones attention's workspace counts, but not a convolution's: with its input unfolded it would be 2.6 times as much.
  MapSource narrow_source(random_weights(list_magi_vae_weights(kSmall)));
  const MagiVae narrow(narrow_source, kSmall);
  CHECK(measured([&] { decode_mean_tiled(narrow, mean, large); }) <
        1.5 * static_cast<double>(magi_vae_decode_peak_bytes(kSmall, large, 80, 96, 12, 4)));
}
