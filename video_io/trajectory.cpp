#include "video_io/trajectory.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace longtake {
namespace {

constexpr double kStillSpeed = 0.3;      // demo clips move by 0.85 to 1.3
constexpr double kCircleTurning = 50;    // one turn takes about 90 frames
constexpr double kMaxTurnPerFrame = 45;  // a sharper one is a reversal
constexpr double kJump = 12;             // pixels a frame
constexpr size_t kLag = 8;               // frames over which velocities are taken

using Path = std::vector<cv::Point2d>;

double degrees(double radians) { return radians * 180 / std::numbers::pi; }

std::vector<Path> split_runs(const std::vector<std::optional<cv::Point2d>>& positions) {
  std::vector<Path> runs(1);
  for (const auto& position : positions) {
    const bool jumps = position && !runs.back().empty() && cv::norm(*position - runs.back().back()) > kJump;
    if ((!position || jumps) && !runs.back().empty()) runs.emplace_back();
    if (position) runs.back().push_back(*position);
  }
  std::erase_if(runs, [](const Path& run) { return run.size() < 2; });
  return runs;
}

// Velocities over up to kLag frames.
Path velocities(const Path& run) {
  const size_t lag = std::min(kLag, std::max<size_t>(1, run.size() / 2));
  Path result;
  for (size_t i = lag; i < run.size(); ++i)
    result.push_back((run[i] - run[i - lag]) * (1.0 / static_cast<double>(lag)));
  return result;
}

// How far the direction turns along a run, in degrees; reversals and stops do not count.
double turning_of(const Path& velocity) {
  double sum = 0;
  for (size_t i = 1; i < velocity.size(); ++i) {
    const cv::Point2d a = velocity[i - 1], b = velocity[i];
    if (cv::norm(a) < kStillSpeed || cv::norm(b) < kStillSpeed) continue;
    const double turn = degrees(std::atan2(a.cross(b), a.dot(b)));
    if (std::abs(turn) <= kMaxTurnPerFrame) sum += turn;
  }
  return sum;
}

demo::Motion straight_motion(double direction) {
  const double from_horizontal = std::min(std::abs(direction), 180 - std::abs(direction));
  if (from_horizontal < 22.5)
    return std::abs(direction) < 90 ? demo::Motion::left_to_right : demo::Motion::right_to_left;
  if (from_horizontal > 67.5) return direction > 0 ? demo::Motion::upwards : demo::Motion::downwards;
  return demo::Motion::diagonal;
}

}  // namespace

Trajectory classify_motion(const std::vector<std::optional<cv::Point2d>>& positions) {
  Trajectory result;
  Path all;
  for (const Path& run : split_runs(positions)) {
    const Path velocity = velocities(run);
    all.insert(all.end(), velocity.begin(), velocity.end());
    result.turning += turning_of(velocity);
  }
  if (all.empty()) return result;
  std::vector<double> speeds;
  for (const cv::Point2d& velocity : all) {
    result.velocity += velocity * (1.0 / static_cast<double>(all.size()));
    speeds.push_back(cv::norm(velocity));
  }
  std::nth_element(speeds.begin(), speeds.begin() + static_cast<std::ptrdiff_t>(speeds.size() / 2), speeds.end());
  result.speed = speeds[speeds.size() / 2];
  result.direction = degrees(std::atan2(-result.velocity.y, result.velocity.x));
  if (result.speed < kStillSpeed)
    result.motion = demo::Motion::still;
  else if (std::abs(result.turning) > kCircleTurning)
    result.motion = demo::Motion::circular;
  else
    result.motion = straight_motion(result.direction);
  return result;
}

}  // namespace longtake
