#include "models/demo/world.h"
#include "tests/catch.h"

#include <cmath>
#include <set>

using namespace longtake::demo;

TEST_CASE("every caption style of every scene reads back") {
  int wrong = 0;
  std::string first_wrong;
  std::set<std::string> distinct;
  const auto scenes = all_scenes();
  REQUIRE(scenes.size() == 6 * 8 * 3 * 7 * 6);
  for (const Scene& scene : scenes) {
    for (int style = 0; style < kCaptionStyles; ++style) {
      const std::string text = caption(scene, style);
      distinct.insert(text);
      SceneQuery expected{scene.shape, scene.colour, {}, scene.motion, scene.background};
      if (scene.size != Size::normal) expected.size = scene.size;
      if (!(parse_caption(text) == expected) && wrong++ == 0) first_wrong = text;
    }
  }
  INFO(first_wrong);
  CHECK(wrong == 0);
  CHECK(distinct.size() == scenes.size() * kCaptionStyles);
}

TEST_CASE("captions have the documented plain form") {
  CHECK(caption({Shape::circle, Colour::red, Size::small, Motion::left_to_right, Background::grass}) ==
        "a small red circle moves from left to right over grass");
  CHECK(caption({Shape::star, Colour::orange, Size::normal, Motion::circular, Background::night_sky}) ==
        "an orange star moves in a circle over the night sky");
  CHECK_THROWS(caption({}, kCaptionStyles));
  CHECK_THROWS(caption({}, -1));
}

TEST_CASE("free text is understood") {
  const auto check = [](const char* text, SceneQuery expected) {
    INFO(text);
    CHECK(parse_caption(text) == expected);
  };
  check("", {});
  check("a cat plays the piano right now, lit up by the moon", {});
  check("A RED BALL, rolling to the right across green grass!",
        {Shape::circle, Colour::red, {}, Motion::left_to_right, Background::grass});
  check("Over green grass, a disc in red", {Shape::circle, Colour::red, {}, {}, Background::grass});
  check("a blue square moves in a circle over water",
        {Shape::square, Colour::blue, {}, Motion::circular, Background::water});
  check("a white circle moves across sand from the right to the left",
        {Shape::circle, Colour::white, {}, Motion::right_to_left, Background::sand});
  check("a huge cyan plus sign floats up", {Shape::cross, Colour::cyan, Size::large, Motion::upwards, {}});
  check("a yellow star, moving up and to the right, over a still background",
        {Shape::star, Colour::yellow, {}, Motion::diagonal, {}});
  check("a violet lozenge doesn't move", {Shape::diamond, Colour::purple, {}, Motion::still, {}});
  check("static camera: a triangle falling", {Shape::triangle, {}, {}, Motion::downwards, {}});
  check("a starry sky", {{}, {}, {}, {}, Background::night_sky});
  check("\xff\xfe\x00 Ein roter Kreis \xe2\x98\x85", {});
}

TEST_CASE("outlines are centred, of comparable area and agree with contains") {
  for (size_t i = 0; i < kShapeNames.size(); ++i) {
    const Shape shape = static_cast<Shape>(i);
    INFO(name(shape));
    const auto& points = outline(shape);
    double area = 0, x = 0, y = 0;
    for (size_t a = 0; a < points.size(); ++a) {
      const auto& p = points[a];
      const auto& q = points[(a + 1) % points.size()];
      const double part = p[0] * q[1] - q[0] * p[1];
      area += part / 2;
      x += (p[0] + q[0]) * part / 6;
      y += (p[1] + q[1]) * part / 6;
    }
    CHECK(area > 1.3);
    CHECK(area < 3.2);
    CHECK(std::abs(x / area) < 1e-9);
    CHECK(std::abs(y / area) < 1e-9);
    CHECK(extent(shape) <= 1.26);
    int inside = 0;
    constexpr int kSteps = 400;
    for (int row = 0; row < kSteps; ++row)
      for (int column = 0; column < kSteps; ++column)
        inside += contains(shape, 2.6 * (column + 0.5) / kSteps - 1.3, 2.6 * (row + 0.5) / kSteps - 1.3);
    CHECK(std::abs(inside * 2.6 * 2.6 / kSteps / kSteps - area) <
          0.03);  // what the raster cuts off along straight edges
  }
}

TEST_CASE("held-out scenes are an eleventh and contain every value") {
  std::set<int> shapes, colours, motions, backgrounds;
  int count = 0;
  for (const Scene& scene : all_scenes()) {
    if (!held_out(scene)) continue;
    ++count;
    shapes.insert(static_cast<int>(scene.shape));
    colours.insert(static_cast<int>(scene.colour));
    motions.insert(static_cast<int>(scene.motion));
    backgrounds.insert(static_cast<int>(scene.background));
  }
  CHECK(count > 500);
  CHECK(count < 600);
  CHECK(shapes.size() == kShapeNames.size());
  CHECK(colours.size() == kColourNames.size());
  CHECK(motions.size() == kMotionNames.size());
  CHECK(backgrounds.size() == kBackgroundNames.size());
}
