#include "models/demo/clips.h"

#include <ATen/ops/empty.h>

#include <numbers>

#include "base/error.h"
#include "models/demo/textures.h"

namespace longtake::demo {
namespace {

constexpr int kTable = 161;       // samples of a distance table along an edge
constexpr double kReach = 1.6;    // a table covers [-kReach, kReach] radii
constexpr double kMargin = 32;    // pixels outside the frame where no subject can be seen

double distance_to_segment(double x, double y, const std::array<double, 2>& a, const std::array<double, 2>& b) {
  const double dx = b[0] - a[0], dy = b[1] - a[1];
  const double t = std::clamp(((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy), 0.0, 1.0);
  return std::hypot(x - a[0] - t * dx, y - a[1] - t * dy);
}

// Signed distance to the outline in radii, positive inside, on a grid.
std::vector<float> distance_table(Shape shape) {
  std::vector<float> table(kTable * kTable);
  const auto& points = outline(shape);
  for (int row = 0; row < kTable; ++row) {
    for (int column = 0; column < kTable; ++column) {
      const double x = kReach * (2.0 * column / (kTable - 1) - 1), y = kReach * (2.0 * row / (kTable - 1) - 1);
      double distance = 1e9;
      for (size_t i = 0, j = points.size() - 1; i < points.size(); j = i++)
        distance = std::min(distance, distance_to_segment(x, y, points[j], points[i]));
      table[row * kTable + column] = static_cast<float>(contains(shape, x, y) ? distance : -distance);
    }
  }
  return table;
}

const std::vector<float>& distances(Shape shape) {
  static const std::array<std::vector<float>, kShapeNames.size()> tables = [] {
    std::array<std::vector<float>, kShapeNames.size()> result;
    for (size_t i = 0; i < result.size(); ++i) result[i] = distance_table(static_cast<Shape>(i));
    return result;
  }();
  return tables[static_cast<size_t>(shape)];
}

// Bilinear look-up; x and y in radii.
float distance_at(const std::vector<float>& table, double x, double y) {
  const double column = (x / kReach + 1) * (kTable - 1) / 2, row = (y / kReach + 1) * (kTable - 1) / 2;
  if (column < 0 || row < 0 || column >= kTable - 1 || row >= kTable - 1) return -1;
  const int c = static_cast<int>(column), r = static_cast<int>(row);
  const float fx = static_cast<float>(column - c), fy = static_cast<float>(row - r);
  const float* p = table.data() + r * kTable + c;
  return (1 - fy) * ((1 - fx) * p[0] + fx * p[1]) + fy * ((1 - fx) * p[kTable] + fx * p[kTable + 1]);
}

float to_unit(double level) { return static_cast<float>(std::clamp(level, 0.0, 255.0) / 127.5 - 1); }

// Into [-kMargin, kClipSize + kMargin).
double wrap(double position) {
  const double span = kClipSize + 2 * kMargin, shifted = std::fmod(position + kMargin, span);
  return (shifted < 0 ? shifted + span : shifted) - kMargin;
}

}  // namespace

uint64_t Random::next() {
  uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

double Random::uniform(double low, double high) {
  return low + (high - low) * static_cast<double>(next() >> 11) * 0x1.0p-53;
}

int Random::below(int count) { return static_cast<int>(uniform() * count); }

Clip::Clip(const Scene& scene, Start start, uint64_t seed) : scene_(scene) {
  Random random(seed);
  const auto on_grid = [&](int low, int high) { return low + kGrid * random.below((high - low) / kGrid + 1); };
  brightness_ = random.uniform(-4, 4);
  roll_x_ = 16 * random.below(kClipSize / 16);
  roll_y_ = 16 * random.below(kClipSize / 16);
  constexpr double near = 28, speed = 0.75;
  x_ = y_ = on_grid(48, 80);
  switch (scene.motion) {
    case Motion::left_to_right: x_ = near, vx_ = speed; break;
    case Motion::right_to_left: x_ = kClipSize - near, vx_ = -speed; break;
    case Motion::downwards: y_ = near, vy_ = speed; break;
    case Motion::upwards: y_ = kClipSize - near, vy_ = -speed; break;
    case Motion::diagonal:
      x_ = near, y_ = on_grid(28, 36);
      vx_ = vy_ = speed;
      break;
    case Motion::circular:
      x_ = on_grid(60, 68), y_ = on_grid(60, 68);
      orbit_ = 28;
      angle_ = 2 * std::numbers::pi * random.below(24) / 24;
      turn_ = 2 * std::numbers::pi / 96;
      break;
    case Motion::still: y_ = on_grid(48, 80); break;
  }
  if (start == Start::anywhere) {
    const int frames = 4 * random.below(64);  // whole latent frames; all phases of a crossing and of a turn
    x_ += vx_ * frames, y_ += vy_ * frames, angle_ += turn_ * frames;
  }
}

std::pair<double, double> Clip::position(int frame) const {
  const double angle = angle_ + turn_ * frame;
  return {wrap(x_ + vx_ * frame) + orbit_ * std::cos(angle), wrap(y_ + vy_ * frame) + orbit_ * std::sin(angle)};
}

at::Tensor Clip::frames(int first, int count) const {
  LONGTAKE_CHECK(first >= 0 && count > 0, "expected frames from 0 on, found [{}, {})", first, first + count);
  constexpr int size = kClipSize, plane = size * size;
  const std::vector<float>& tile = texture(scene_.background);  // [3][size][size], 8-bit levels
  const at::Tensor video = at::empty({3, count, size, size}, at::TensorOptions().dtype(at::kFloat));
  float* out = video.mutable_data_ptr<float>();
  const Rgb rgb = kColours[static_cast<size_t>(scene_.colour)];
  const float subject[3] = {to_unit(rgb.r), to_unit(rgb.g), to_unit(rgb.b)};

  for (int c = 0; c < 3; ++c) {
    float* frame0 = out + static_cast<int64_t>(c) * count * plane;
    for (int y = 0; y < size; ++y)
      for (int x = 0; x < size; ++x)
        frame0[y * size + x] =
            to_unit(tile[c * plane + (y + roll_y_) % size * size + (x + roll_x_) % size] + brightness_);
    for (int t = 1; t < count; ++t) std::copy_n(frame0, plane, frame0 + static_cast<int64_t>(t) * plane);
  }
  const std::vector<float>& table = distances(scene_.shape);
  const double radius = this->radius();
  const int reach = static_cast<int>(std::ceil(radius * extent(scene_.shape))) + 1;
  for (int t = 0; t < count; ++t) {
    const auto [cx, cy] = position(first + t);
    for (int y = std::max(0, static_cast<int>(cy) - reach); y <= std::min(size - 1, static_cast<int>(cy) + reach); ++y) {
      for (int x = std::max(0, static_cast<int>(cx) - reach); x <= std::min(size - 1, static_cast<int>(cx) + reach); ++x) {
        // Pixel centres lie at halves; an edge covers a pixel in proportion to its distance.
        const double distance = distance_at(table, (x + 0.5 - cx) / radius, (y + 0.5 - cy) / radius) * radius;
        const float cover = static_cast<float>(std::clamp(distance + 0.5, 0.0, 1.0));
        if (cover == 0) continue;
        for (int c = 0; c < 3; ++c) {
          float& pixel = out[(static_cast<int64_t>(c) * count + t) * plane + y * size + x];
          pixel += cover * (subject[c] - pixel);
        }
      }
    }
  }
  return video;
}

Scene random_training_scene(Random& random) {
  while (true) {
    const Scene scene{static_cast<Shape>(random.below(kShapeNames.size())), static_cast<Colour>(random.below(kColourNames.size())),
                      static_cast<Size>(random.below(kSizeNames.size())), static_cast<Motion>(random.below(kMotionNames.size())),
                      static_cast<Background>(random.below(kBackgroundNames.size()))};
    if (!held_out(scene)) return scene;
  }
}

}  // namespace longtake::demo
