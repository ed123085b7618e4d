#include "models/demo/world.h"

#include "base/error.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace longtake::demo {
namespace {

using Outline = std::vector<std::array<double, 2>>;

// `corners` points on a circle, alternating between two radii, the first one on top.
Outline ring(int corners, double even_radius, double odd_radius) {
  Outline points;
  for (int i = 0; i < corners; ++i) {
    const double angle = 2 * std::numbers::pi * i / corners - std::numbers::pi / 2;
    const double radius = i % 2 == 0 ? even_radius : odd_radius;
    points.push_back({radius * std::cos(angle), radius * std::sin(angle)});
  }
  return points;
}

Outline make_outline(Shape shape) {
  constexpr double side = 0.88;  // a square of about the circle's area
  constexpr double arm = 1.1, half_width = 0.36;
  switch (shape) {
    case Shape::circle:
      return ring(64, 1, 1);
    case Shape::square:
      return {{-side, -side}, {side, -side}, {side, side}, {-side, side}};
    case Shape::triangle:
      return ring(3, 1.25, 1.25);
    case Shape::star:
      return ring(10, 1.25, 0.55);
    case Shape::diamond:
      return {{0, -1.25}, {1, 0}, {0, 1.25}, {-1, 0}};
    case Shape::cross:
      return {{-half_width, -arm}, {half_width, -arm},  {half_width, -half_width},
              {arm, -half_width},  {arm, half_width},   {half_width, half_width},
              {half_width, arm},   {-half_width, arm},  {-half_width, half_width},
              {-arm, half_width},  {-arm, -half_width}, {-half_width, -half_width}};
  }
  LONGTAKE_CHECK(false, "shape {} is out of range", static_cast<int>(shape));
}

}  // namespace

double radius_of(Size size) {
  switch (size) {
    case Size::small:
      return 16;
    case Size::normal:
      return 20;
    case Size::large:
      return 24;
  }
  LONGTAKE_CHECK(false, "size {} is out of range", static_cast<int>(size));
}

const Outline& outline(Shape shape) {
  static const std::array<Outline, kShapeNames.size()> outlines = [] {
    std::array<Outline, kShapeNames.size()> result;
    for (size_t i = 0; i < result.size(); ++i) result[i] = make_outline(static_cast<Shape>(i));
    return result;
  }();
  return outlines.at(static_cast<size_t>(shape));
}

bool contains(Shape shape, double x, double y) {
  if (shape == Shape::circle) return x * x + y * y <= 1;
  const Outline& points = outline(shape);
  bool inside = false;
  for (size_t i = 0, j = points.size() - 1; i < points.size(); j = i++) {
    const auto [xi, yi] = points[i];
    const auto [xj, yj] = points[j];
    if ((yi > y) != (yj > y) && x < (xj - xi) * (y - yi) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

double extent(Shape shape) {
  double largest = 0;
  for (const auto& [x, y] : outline(shape)) largest = std::max(largest, std::hypot(x, y));
  return largest;
}

std::vector<Scene> all_scenes() {
  std::vector<Scene> scenes;
  for (size_t shape = 0; shape < kShapeNames.size(); ++shape)
    for (size_t colour = 0; colour < kColourNames.size(); ++colour)
      for (size_t size = 0; size < kSizeNames.size(); ++size)
        for (size_t motion = 0; motion < kMotionNames.size(); ++motion)
          for (size_t background = 0; background < kBackgroundNames.size(); ++background)
            scenes.push_back({static_cast<Shape>(shape), static_cast<Colour>(colour), static_cast<Size>(size),
                              static_cast<Motion>(motion), static_cast<Background>(background)});
  return scenes;
}

bool held_out(const Scene& scene) {
  return (static_cast<int>(scene.shape) + 2 * static_cast<int>(scene.colour) + 3 * static_cast<int>(scene.motion) +
          5 * static_cast<int>(scene.background)) %
             11 ==
         0;
}

}  // namespace longtake::demo
