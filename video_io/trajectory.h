// What motion a subject's positions show, in the words of the demo world.
//
// Positions are in pixels of a clip of demo::kClipSize; frames without a usable position break the path into runs, and
// so does a jump (subjects that leave on one side come in again on the other). Within a run velocities are taken over
// several frames, which makes them insensitive to jitter.
#pragma once

#include "models/demo/world.h"

#include <opencv2/core.hpp>

#include <optional>
#include <vector>

namespace longtake {

struct Trajectory {
  std::optional<demo::Motion> motion;  // none with fewer than two successive positions
  cv::Point2d velocity;                // mean, pixels a frame
  double speed = 0;                    // median of its magnitude, pixels a frame
  double turning = 0;                  // degrees by which the direction turns in all, clockwise on the screen positive
  double direction = 0;                // of the mean velocity, degrees: 0 to the right, 90 up, within (-180, 180]
};

// still: median speed below 0.3 pixels a frame. circular: the direction turns by more than 50 degrees steadily.
// Else by the mean velocity: within 22.5 degrees of an axis left, right, up or down, between them diagonal.
Trajectory classify_motion(const std::vector<std::optional<cv::Point2d>>& positions);

}  // namespace longtake
