#include "video_io/trajectory.h"

#include "tests/catch.h"

#include <cmath>
#include <functional>
#include <numbers>

using namespace longtake;
using demo::Motion;

namespace {

using Positions = std::vector<std::optional<cv::Point2d>>;

Positions path(int frames, const std::function<cv::Point2d(int)>& at) {
  Positions positions;
  for (int t = 0; t < frames; ++t) positions.push_back(at(t));
  return positions;
}

// A deterministic tremble of up to one pixel.
cv::Point2d tremble(int t) { return {std::sin(12.9898 * t), std::sin(78.233 * t)}; }

}  // namespace

TEST_CASE("straight motions are named by their direction, trembling or not") {
  for (const double shake : {0.0, 1.0}) {
    for (int degrees = 0; degrees < 360; degrees += 5) {
      const double angle = degrees * std::numbers::pi / 180;
      const cv::Point2d step(0.9 * std::cos(angle), -0.9 * std::sin(angle));
      const Trajectory found = classify_motion(path(33, [&](int t) { return step * t + shake * tremble(t); }));
      INFO(degrees << " degrees, tremble " << shake << ", measured " << found.direction);
      const int octant = (degrees + 22) / 45 % 8;
      const Motion expected = octant % 2    ? Motion::diagonal
                              : octant == 0 ? Motion::left_to_right
                              : octant == 2 ? Motion::upwards
                              : octant == 4 ? Motion::right_to_left
                                            : Motion::downwards;
      if ((degrees + 22) % 45 > 4 && (degrees + 22) % 45 < 40) CHECK(found.motion == expected);
      if (shake == 0) CHECK(std::abs(found.speed - 0.9) < 1e-9);
    }
  }
}

TEST_CASE("circles are told from straight lines from a quarter of a turn on") {
  for (const int frames : {25, 49, 97, 300})
    for (const int sense : {-1, 1})
      for (int start = 0; start < 12; ++start) {
        const Trajectory found = classify_motion(path(frames, [&](int t) {
          const double angle = start * 0.5 + sense * t * 2 * std::numbers::pi / 92;
          return cv::Point2d(64 + 29 * std::cos(angle), 64 + 29 * std::sin(angle));
        }));
        INFO(frames << " frames, sense " << sense << ", turning " << found.turning);
        CHECK(found.motion == Motion::circular);
        CHECK(found.turning * sense > 0);
      }
}

TEST_CASE("subjects that leave and come in again keep their direction") {
  const auto at = [](int t) -> std::optional<cv::Point2d> {
    const double x = std::fmod(60 + 0.9 * t, 180) - 26;
    if (x < 24 || x > 104) return std::nullopt;  // cut by the border
    return cv::Point2d(x, 70);
  };
  Positions positions;
  for (int t = 0; t < 400; ++t) positions.push_back(at(t));
  CHECK(classify_motion(positions).motion == Motion::left_to_right);
  // The same without gaps: jumps.
  Positions jumps;
  for (const auto& position : positions)
    if (position) jumps.push_back(position);
  const Trajectory found = classify_motion(jumps);
  CHECK(found.motion == Motion::left_to_right);
  CHECK(std::abs(found.velocity.x - 0.9) < 1e-9);
}

TEST_CASE("what trembles or creeps stands still, and what is not seen has no motion") {
  CHECK(classify_motion(path(33, [](int t) { return cv::Point2d(64, 64) + tremble(t); })).motion == Motion::still);
  CHECK(classify_motion(path(97, [](int t) { return cv::Point2d(50 + 0.1 * t, 64); })).motion == Motion::still);
  CHECK(!classify_motion({}).motion.has_value());
  CHECK(!classify_motion({cv::Point2d(1, 1)}).motion.has_value());
  CHECK(!classify_motion({cv::Point2d(1, 1), std::nullopt, cv::Point2d(1, 1)}).motion.has_value());
}
