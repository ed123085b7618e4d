// How well a clip of the demo world follows its prompt: colour, shape, motion and background, read back with OpenCV.
//
// Everything is measured on decoded frames without any network, so it judges the demo model objectively. Lengths are in
// pixels of a clip whose shorter side is demo::kClipSize; colours 8-bit sRGB; background changes in 8-bit levels.
#pragma once

#include "models/demo/world.h"
#include "video_io/trajectory.h"

#include <ATen/core/Tensor.h>
#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstdint>
#include <optional>

namespace longtake {

struct ClipMeasurement {
  int64_t frames = 0;
  double visible_share = 0;  // of frames in which a subject is found
  double whole_share = 0;    // of frames in which it is found and does not touch the border

  std::optional<demo::Colour> colour;  // the nearest of the table in CIE Lab
  demo::Rgb rgb{};                     // as measured
  double colour_distance = 0;          // to the table's colour, in Lab

  std::optional<demo::Shape> shape;                        // of the largest mean overlap with the ideal shapes
  std::array<double, demo::kShapeNames.size()> overlap{};  // mean intersection over union, by Shape
  double shape_share = 0;                                  // of frames that by themselves show this shape

  std::optional<demo::Size> size;
  double radius = 0;

  Trajectory trajectory;

  double background_change = 0;  // mean absolute change from frame to frame, away from the subject
  double background_drift = 0;   // the same between the first and the last frame
  bool background_still = true;  // change <= 1 and drift <= 10
};

// Frames: uint8 RGB [T, H, W, 3]. Error (usage) for no frames or sides below 16 pixels.
ClipMeasurement measure_clip(const at::Tensor& frames);

// What was measured against what the prompt asks for. An attribute is right only if it was measured; nothing where the
// prompt does not say.
struct PromptFollowing {
  std::optional<bool> colour, shape, motion, size;
  std::optional<bool> all;  // colour, shape and motion, as far as the prompt names them
};

PromptFollowing compare_with_prompt(const ClipMeasurement& measured, const demo::SceneQuery& expected);

// {"frames", "subject": {"visible_share", "whole_share"}, "colour" | "shape" | "size" | "motion": {"measured",
// "expected", "right", numbers...}, "background": {"change", "drift", "still"}, "follows"}; null where nothing was
// measured or expected.
nlohmann::json follow_report(const ClipMeasurement& measured, const demo::SceneQuery& expected);

}  // namespace longtake
