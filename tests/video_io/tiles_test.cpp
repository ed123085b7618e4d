#include "video_io/tiles.h"

#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

using namespace longtake;

namespace {

Tile tile(const std::string& label, uint8_t grey, float heat) {
  return {label, "recomputed\n12 %", at::full({9, 32, 48, 3}, grey, at::kByte), at::full({3, 2, 3}, heat, at::kFloat)};
}

// How many pixels have this colour.
int64_t count(const at::Tensor& picture, std::array<uint8_t, 3> rgb) {
  at::Tensor same = picture.select(2, 0) == rgb[0];
  for (int c = 1; c < 3; ++c) same = same.logical_and(picture.select(2, c) == rgb[c]);
  return same.sum().item<int64_t>();
}

}  // namespace

TEST_CASE("a side-by-side frame holds every picture and its heat map") {
  for (const size_t n : {size_t{1}, size_t{2}, size_t{5}, size_t{9}}) {
    std::vector<Tile> tiles;
    for (size_t i = 0; i < n; ++i)
      tiles.push_back(
          tile("policy ü " + std::to_string(i), static_cast<uint8_t>(60 + 15 * i), static_cast<float>(i) / 8));
    const at::Tensor frame = tile_frame(tiles, 4);
    CHECK(frame.size(0) % 2 == 0);
    CHECK(frame.size(1) % 2 == 0);
    CHECK(frame.size(1) <= 1936);
    for (size_t i = 0; i < n; ++i) {
      const auto grey = static_cast<uint8_t>(60 + 15 * i);
      // 48 x 32 is enlarged to at least 256 pixels wide; the heat map has half the sides.
      const int64_t pixels = count(frame, {grey, grey, grey});
      CHECK(pixels >= 256 * 160);
      CHECK(count(frame, heat_colour(static_cast<double>(i) / 8)) >= pixels / 5);
    }
  }
}

TEST_CASE("large pictures are made smaller, and times past the end show the last frame") {
  const std::vector<Tile> tiles{{"a", "", at::zeros({2, 720, 1280, 3}, at::kByte), {}},
                                {"b", "", at::zeros({2, 720, 1280, 3}, at::kByte), {}}};
  CHECK(tile_frame(tiles, 0).size(1) <= 1936);
  CHECK(at::equal(tile_frame(tiles, 1), tile_frame(tiles, 7)));
}

TEST_CASE("a film strip has pictures, differences and heat") {
  const Tile t = tile("a", 100, 1);
  const at::Tensor reference = at::full({9, 32, 48, 3}, 90, at::kByte);
  const std::vector<int64_t> times{0, 4, 8};
  const at::Tensor all = film_strip(t, reference, times), plain = film_strip({"a", "", t.frames, {}}, {}, times);
  CHECK(all.size(0) == 3 * plain.size(0));
  CHECK(count(all, {100, 100, 100}) > 3 * 100 * 60);
  CHECK(count(all, {40, 40, 40}) == count(all, {100, 100, 100}));  // a difference of 10, four times as bright
  CHECK(count(all, heat_colour(1)) == count(all, {100, 100, 100}));
  CHECK(count(plain, {100, 100, 100}) == count(all, {100, 100, 100}));
}
