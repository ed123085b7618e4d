#include "video_io/follow.h"

#include "video_io/subject.h"

#include <nlohmann/json.hpp>
#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace longtake {
namespace {

constexpr double kStillChange = 1;  // compression noise at crf 23 stays below 0.2
constexpr double kStillDrift = 10;
constexpr int kSubjectMargin = 6;  // pixels around the subject that do not count as background

void measure_colour(const SubjectTrack& track, ClipMeasurement& result) {
  if (!track.colour) return;
  result.rgb = {(*track.colour)[0], (*track.colour)[1], (*track.colour)[2]};
  result.colour_distance = std::numeric_limits<double>::max();
  for (size_t i = 0; i < demo::kColours.size(); ++i) {
    const demo::Rgb rgb = demo::kColours[i];
    const double distance = cv::norm(to_lab(*track.colour) - to_lab({rgb.r, rgb.g, rgb.b}));
    if (distance >= result.colour_distance) continue;
    result.colour_distance = distance;
    result.colour = static_cast<demo::Colour>(i);
  }
}

// The area of a shape in square radii, as demo::outline draws it.
double area_of(demo::Shape shape) {
  const auto& points = demo::outline(shape);
  double twice = 0;
  for (size_t i = 0, j = points.size() - 1; i < points.size(); j = i++)
    twice += points[j][0] * points[i][1] - points[i][0] * points[j][1];
  return std::abs(twice) / 2;
}

demo::Size size_of(double radius) {
  const double normal = demo::radius_of(demo::Size::normal);
  if (radius < (demo::radius_of(demo::Size::small) + normal) / 2) return demo::Size::small;
  if (radius < (normal + demo::radius_of(demo::Size::large)) / 2) return demo::Size::normal;
  return demo::Size::large;
}

// From the frames that show the subject whole, or, where there are none, from all that show it.
void measure_shape(const SubjectTrack& track, ClipMeasurement& result) {
  std::vector<const SubjectInFrame*> used;
  for (const SubjectInFrame& frame : track.frames)
    if (frame.found && (frame.whole || result.whole_share == 0)) used.push_back(&frame);
  if (used.empty()) return;
  std::vector<double> areas;
  for (const SubjectInFrame* frame : used) {
    areas.push_back(frame->area);
    for (size_t i = 0; i < result.overlap.size(); ++i)
      result.overlap[i] += frame->overlap[i] / static_cast<double>(used.size());
  }
  const auto best = [](const auto& overlap) {
    return std::max_element(overlap.begin(), overlap.end()) - overlap.begin();
  };
  result.shape = static_cast<demo::Shape>(best(result.overlap));
  const auto agree = std::count_if(used.begin(), used.end(), [&](const SubjectInFrame* frame) {
    return static_cast<demo::Shape>(best(frame->overlap)) == result.shape;
  });
  result.shape_share = static_cast<double>(agree) / static_cast<double>(used.size());
  std::nth_element(areas.begin(), areas.begin() + static_cast<std::ptrdiff_t>(areas.size() / 2), areas.end());
  result.radius = std::sqrt(areas[areas.size() / 2] / area_of(*result.shape));
  result.size = size_of(result.radius);
}

void measure_motion(const SubjectTrack& track, ClipMeasurement& result) {
  std::vector<std::optional<cv::Point2d>> positions;
  for (const SubjectInFrame& frame : track.frames) {
    // The centroid of a subject cut by the border lags behind.
    const bool usable = frame.found && (frame.whole || result.whole_share == 0);
    positions.push_back(usable ? std::optional(frame.centre) : std::nullopt);
  }
  result.trajectory = classify_motion(positions);
}

// Mean absolute difference of two frames where neither shows the subject.
double background_difference(const SubjectTrack& track, size_t a, size_t b) {
  cv::Mat subject, difference;
  const int side = 2 * kSubjectMargin + 1;
  cv::dilate(track.frames[a].mask | track.frames[b].mask, subject, cv::Mat::ones(side, side, CV_8U));
  cv::absdiff(track.pictures[a], track.pictures[b], difference);
  const cv::Scalar mean = cv::mean(difference, subject == 0);
  return (mean[0] + mean[1] + mean[2]) / 3;
}

void measure_background(const SubjectTrack& track, ClipMeasurement& result) {
  const size_t count = track.frames.size();
  for (size_t t = 1; t < count; ++t)
    result.background_change += background_difference(track, t - 1, t) / static_cast<double>(count - 1);
  result.background_drift = background_difference(track, 0, count - 1);
  result.background_still = result.background_change <= kStillChange && result.background_drift <= kStillDrift;
}

template <class Value>
std::optional<bool> right(const std::optional<Value>& measured, const std::optional<Value>& expected) {
  if (!expected) return std::nullopt;
  return measured == expected;
}

template <class Value>
nlohmann::json name_or_null(const std::optional<Value>& value) {
  return value ? nlohmann::json(demo::name(*value)) : nlohmann::json(nullptr);
}

template <class Value>
nlohmann::json attribute(const std::optional<Value>& measured, const std::optional<Value>& expected) {
  const std::optional<bool> verdict = right(measured, expected);
  return {{"measured", name_or_null(measured)},
          {"expected", name_or_null(expected)},
          {"right", verdict ? nlohmann::json(*verdict) : nlohmann::json(nullptr)}};
}

}  // namespace

ClipMeasurement measure_clip(const at::Tensor& frames) {
  const SubjectTrack track = track_subject(frames);
  ClipMeasurement result;
  result.frames = static_cast<int64_t>(track.frames.size());
  for (const SubjectInFrame& frame : track.frames) {
    result.visible_share += frame.found;
    result.whole_share += frame.whole;
  }
  result.visible_share /= static_cast<double>(result.frames);
  result.whole_share /= static_cast<double>(result.frames);
  measure_colour(track, result);
  measure_shape(track, result);
  measure_motion(track, result);
  measure_background(track, result);
  return result;
}

PromptFollowing compare_with_prompt(const ClipMeasurement& measured, const demo::SceneQuery& expected) {
  PromptFollowing result{right(measured.colour, expected.colour),
                         right(measured.shape, expected.shape),
                         right(measured.trajectory.motion, expected.motion),
                         right(measured.size, expected.size),
                         {}};
  for (const auto& verdict : {result.colour, result.shape, result.motion})
    if (verdict) result.all = result.all.value_or(true) && *verdict;
  return result;
}

nlohmann::json follow_report(const ClipMeasurement& m, const demo::SceneQuery& expected) {
  nlohmann::json colour = attribute(m.colour, expected.colour);
  colour["rgb"] = {m.rgb.r, m.rgb.g, m.rgb.b};
  colour["lab_distance"] = m.colour_distance;
  nlohmann::json shape = attribute(m.shape, expected.shape);
  for (size_t i = 0; i < m.overlap.size(); ++i) shape["overlap"][std::string(demo::kShapeNames[i])] = m.overlap[i];
  shape["agreeing_frames"] = m.shape_share;
  nlohmann::json size = attribute(m.size, expected.size);
  size["radius"] = m.radius;
  nlohmann::json motion = attribute(m.trajectory.motion, expected.motion);
  motion["speed"] = m.trajectory.speed;
  motion["direction_degrees"] = m.trajectory.direction;
  motion["turning_degrees"] = m.trajectory.turning;
  const std::optional<bool> all = compare_with_prompt(m, expected).all;
  return {
      {"frames", m.frames},
      {"subject", {{"visible_share", m.visible_share}, {"whole_share", m.whole_share}}},
      {"colour", colour},
      {"shape", shape},
      {"size", size},
      {"motion", motion},
      {"background", {{"change", m.background_change}, {"drift", m.background_drift}, {"still", m.background_still}}},
      {"follows", all ? nlohmann::json(*all) : nlohmann::json(nullptr)}};
}

}  // namespace longtake
