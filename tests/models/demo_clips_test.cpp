// The clip generator: reproducible, inside its range, and showing what its scene says.
#include "models/demo/clips.h"

#include "models/demo/textures.h"
#include "tests/catch.h"

using namespace longtake;
using namespace longtake::demo;

TEST_CASE("The random numbers of the demo world are fixed", "[demo]") {
  Random random(0);  // splitmix64's published first outputs
  CHECK(random.next() == 0xe220a8397b1dcdafu);
  CHECK(random.next() == 0x6e789e6aa1b965f4u);
}

TEST_CASE("A clip is the same however it is cut", "[demo]") {
  const Clip clip({Shape::star, Colour::cyan, Size::large, Motion::circular, Background::wood}, Start::beginning, 7);
  const at::Tensor whole = clip.frames(0, 9);
  CHECK(whole.sizes() == at::IntArrayRef({3, 9, kClipSize, kClipSize}));
  CHECK(whole.abs().max().item<float>() <= 1);
  CHECK(whole.narrow(1, 4, 5).equal(clip.frames(4, 5)));
  CHECK_FALSE(whole.equal(Clip(clip.scene(), Start::beginning, 8).frames(0, 9)));
}

TEST_CASE("A clip shows the subject's colour at its centre over a still background", "[demo]") {
  for (int motion = 0; motion < static_cast<int>(kMotionNames.size()); ++motion) {
    const Scene scene{Shape::square, Colour::purple, Size::small, static_cast<Motion>(motion), Background::grass};
    const Clip clip(scene, Start::beginning, 3);
    const at::Tensor video = clip.frames(0, 81);
    for (const int frame : {0, 40, 80}) {
      const auto [x, y] = clip.position(frame);
      REQUIRE((x > 0 && x < kClipSize && y > 0 && y < kClipSize));
      const Rgb want = kColours[static_cast<size_t>(scene.colour)];
      const float channels[] = {want.r / 127.5f - 1, want.g / 127.5f - 1, want.b / 127.5f - 1};
      for (int c = 0; c < 3; ++c)
        CHECK(std::abs(video[c][frame][static_cast<int64_t>(y)][static_cast<int64_t>(x)].item<float>() - channels[c]) < 1e-5f);
    }
    const auto [x0, y0] = clip.position(0);
    const auto [x1, y1] = clip.position(20);
    switch (scene.motion) {
      case Motion::left_to_right: CHECK((x1 == x0 + 15 && y1 == y0)); break;
      case Motion::right_to_left: CHECK((x1 == x0 - 15 && y1 == y0)); break;
      case Motion::upwards: CHECK((y1 == y0 - 15 && x1 == x0)); break;
      case Motion::downwards: CHECK((y1 == y0 + 15 && x1 == x0)); break;
      case Motion::diagonal: CHECK((x1 == x0 + 15 && y1 == y0 + 15)); break;
      case Motion::circular: CHECK(std::hypot(x1 - x0, y1 - y0) > 20); break;
      case Motion::still: CHECK((x1 == x0 && y1 == y0)); break;
    }
  }
}

TEST_CASE("Motion never ends: a subject that left comes in on the other side", "[demo]") {
  const Clip clip({Shape::circle, Colour::red, Size::normal, Motion::left_to_right, Background::sand}, Start::beginning, 5);
  constexpr double margin = 32;
  CHECK(radius_of(Size::large) * extent(Shape::star) <= margin - 1);
  bool came_back = false;
  for (int frame = 1; frame < 400; ++frame) {
    const double before = clip.position(frame - 1).first, now = clip.position(frame).first;
    CHECK((now >= -margin && now < kClipSize + margin));
    if (now < before) {
      came_back = true;
      CHECK(before > kClipSize + margin - 2);  // gone completely before it comes in again
    }
  }
  CHECK(came_back);
}

TEST_CASE("Textures stay within 30 levels of their tone", "[demo]") {
  for (int b = 0; b < static_cast<int>(kBackgroundNames.size()); ++b) {
    const auto& levels = texture(static_cast<Background>(b));
    const Rgb tone = kBackgroundTones[static_cast<size_t>(b)];
    const double mean[] = {double(tone.r), double(tone.g), double(tone.b)};
    REQUIRE(levels.size() == 3u * kClipSize * kClipSize);
    double largest = 0;
    for (size_t i = 0; i < levels.size(); ++i)
      largest = std::max(largest, std::abs(levels[i] - mean[i / (kClipSize * kClipSize)]));
    CHECK(largest <= 30);
    CHECK(largest > 5);
  }
}

TEST_CASE("Training scenes are never held out", "[demo]") {
  Random random(1);
  for (int i = 0; i < 500; ++i) CHECK_FALSE(held_out(random_training_scene(random)));
}
