// Finds the subject of a demo clip in every frame: the coloured shape on a background of low saturation.
//
// A background median over time would swallow a subject that stands still, so colour decides: the background's tone is
// the median of all pixels (the subject covers far less than half of them), seeds are what differs clearly from it in
// CIE Lab, the subject's own colour is the median of the seeds' cores, and a pixel belongs to the subject where it lies
// nearer to that colour than to the tone. The largest connected part of each frame is the subject.
//
// Frames are scaled so that the shorter side has models/demo's kClipSize pixels; all lengths below are in such pixels,
// with pixel centres at integers, x to the right, y downwards.
#pragma once

#include "models/demo/world.h"

#include <ATen/core/Tensor.h>
#include <opencv2/core.hpp>

#include <array>
#include <optional>
#include <vector>

namespace longtake {

struct SubjectInFrame {
  bool found = false;
  bool whole = false;  // found, and not touching the frame's border
  cv::Point2d centre;  // centroid
  double area = 0;     // square pixels
  cv::Mat mask;        // uint8 [H, W], 255 within the subject; always defined
  // Overlap (intersection over union) with the ideal shapes of the same area and centroid, by Shape.
  std::array<double, demo::kShapeNames.size()> overlap{};
};

struct SubjectTrack {
  std::optional<cv::Vec3b> colour;  // RGB; none where no frame shows a subject
  std::vector<cv::Mat> pictures;    // the scaled frames, uint8 RGB
  std::vector<SubjectInFrame> frames;
};

// Frames: uint8 [T, H, W, 3], any device, at least one, sides of at least 16 pixels (error: usage).
SubjectTrack track_subject(const at::Tensor& frames);

// CIE Lab of an 8-bit sRGB colour: L 0..100.
cv::Vec3f to_lab(cv::Vec3b rgb);

}  // namespace longtake
