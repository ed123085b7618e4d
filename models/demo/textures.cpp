#include "models/demo/textures.h"

#include <array>
#include <cmath>
#include <numbers>

#include "models/demo/clips.h"

namespace longtake::demo {
namespace {

constexpr int kSize = kClipSize;
constexpr double kTurn = 2 * std::numbers::pi;

using Plane = std::vector<double>;  // [kSize][kSize], about -1 ... 1

// Value noise with cells of `cell_x` by `cell_y` pixels, smooth and periodic.
Plane value_noise(uint64_t seed, int cell_x, int cell_y) {
  Random random(seed);
  const int columns = kSize / cell_x, rows = kSize / cell_y;
  std::vector<double> lattice(static_cast<size_t>(columns) * rows);
  for (double& v : lattice) v = random.uniform(-1, 1);
  const auto smooth = [](double t) { return t * t * (3 - 2 * t); };
  Plane plane(kSize * kSize);
  for (int y = 0; y < kSize; ++y) {
    for (int x = 0; x < kSize; ++x) {
      const int c0 = x / cell_x, r0 = y / cell_y, c1 = (c0 + 1) % columns, r1 = (r0 + 1) % rows;
      const double fx = smooth((x % cell_x) / static_cast<double>(cell_x)), fy = smooth((y % cell_y) / static_cast<double>(cell_y));
      const double top = lattice[r0 * columns + c0] * (1 - fx) + lattice[r0 * columns + c1] * fx;
      const double bottom = lattice[r1 * columns + c0] * (1 - fx) + lattice[r1 * columns + c1] * fx;
      plane[y * kSize + x] = top * (1 - fy) + bottom * fy;
    }
  }
  return plane;
}

// Bricks of 32 by 16 pixels in a running bond, light mortar of two pixels, each brick a little different.
Plane bricks() {
  Random random(41);
  std::array<double, 32> tone;
  for (double& v : tone) v = random.uniform(-0.35, 0.25);
  Plane plane(kSize * kSize);
  for (int y = 0; y < kSize; ++y) {
    const int row = y / 16;
    for (int x = 0; x < kSize; ++x) {
      const int shifted = (x + (row % 2) * 16) % kSize;
      const bool mortar = y % 16 < 2 || shifted % 32 < 2;
      plane[y * kSize + x] = mortar ? 1 : tone[row * 4 + shifted / 32];
    }
  }
  return plane;
}

// Planks of 32 pixels with dark joints and a grain along them.
Plane planks() {
  const Plane grain = value_noise(51, 4, 32);
  Random random(52);
  std::array<double, 4> tone;
  for (double& v : tone) v = random.uniform(-0.3, 0.4);
  Plane plane(kSize * kSize);
  for (int y = 0; y < kSize; ++y)
    for (int x = 0; x < kSize; ++x)
      plane[y * kSize + x] = x % 32 < 2 ? -1 : tone[x / 32] + 0.45 * grain[y * kSize + x];
  return plane;
}

Plane waves() {
  Plane plane(kSize * kSize);
  for (int y = 0; y < kSize; ++y)
    for (int x = 0; x < kSize; ++x)
      plane[y * kSize + x] = 0.8 * std::sin(kTurn * (y / 16.0 + 0.25 * std::sin(kTurn * x / 64.0)));
  return plane;
}

Plane stars() {
  Random random(61);
  Plane plane = value_noise(62, 32, 32);
  for (double& v : plane) v *= 0.15;
  for (int i = 0; i < 40; ++i) {
    const int x = random.below(kSize - 1), y = random.below(kSize - 1);
    for (int dy = 0; dy < 2; ++dy)
      for (int dx = 0; dx < 2; ++dx) plane[(y + dy) * kSize + x + dx] = 1;
  }
  return plane;
}

Plane mixed(const Plane& a, double weight_a, const Plane& b, double weight_b) {
  Plane sum(a.size());
  for (size_t i = 0; i < sum.size(); ++i) sum[i] = weight_a * a[i] + weight_b * b[i];
  return sum;
}

Plane pattern(Background background) {
  switch (background) {
    case Background::grass: return mixed(value_noise(11, 8, 16), 0.5, value_noise(12, 32, 32), 0.5);
    case Background::sand: return mixed(value_noise(21, 32, 16), 0.45, value_noise(22, 16, 8), 0.15);
    case Background::water: return waves();
    case Background::brick: return bricks();
    case Background::night_sky: return stars();
    case Background::wood: return planks();
  }
  return {};
}

std::vector<float> make_texture(Background background) {
  const Plane plane = pattern(background);
  const Rgb tone = kBackgroundTones[static_cast<size_t>(background)];
  const double mean[3] = {static_cast<double>(tone.r), static_cast<double>(tone.g), static_cast<double>(tone.b)};
  std::vector<float> levels(3 * plane.size());
  for (int c = 0; c < 3; ++c)
    for (size_t i = 0; i < plane.size(); ++i) levels[c * plane.size() + i] = static_cast<float>(mean[c] + 24 * plane[i]);
  return levels;
}

}  // namespace

const std::vector<float>& texture(Background background) {
  static const std::array<std::vector<float>, kBackgroundNames.size()> textures = [] {
    std::array<std::vector<float>, kBackgroundNames.size()> result;
    for (size_t i = 0; i < result.size(); ++i) result[i] = make_texture(static_cast<Background>(i));
    return result;
  }();
  return textures[static_cast<size_t>(background)];
}

}  // namespace longtake::demo
