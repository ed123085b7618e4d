#include "video_io/subject.h"

#include "base/error.h"
#include "video_io/frames.h"

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>

namespace longtake {
namespace {

constexpr double kMinArea = 40;     // the smallest shape covers 270
constexpr double kMaxShare = 0.35;  // of the frame; a larger part is background
constexpr float kSeedDistance[] = {30,
                                   20};  // Lab; textures stay within 12 of their tone. The second is for pale subjects
constexpr int kUpscale = 4;              // for outlines finer than pixels

cv::Mat to_lab(const cv::Mat& rgb) {
  cv::Mat unit, lab;
  rgb.convertTo(unit, CV_32FC3, 1 / 255.0);
  cv::cvtColor(unit, lab, cv::COLOR_RGB2Lab);
  return lab;
}

// Median by channel of 8-bit colours, from their histograms.
class ColourMedian {
 public:
  void add(cv::Vec3b colour) {
    for (int c = 0; c < 3; ++c) ++counts_[c][colour[c]];
    ++size_;
  }
  size_t size() const { return size_; }
  cv::Vec3b value() const {
    cv::Vec3b result;
    for (int c = 0; c < 3; ++c) {
      size_t below = 0;
      int level = 0;
      while (level < 255 && (below += counts_[c][level]) <= size_ / 2) ++level;
      result[c] = static_cast<uint8_t>(level);
    }
    return result;
  }

 private:
  std::array<std::array<size_t, 256>, 3> counts_{};
  size_t size_ = 0;
};

std::vector<cv::Mat> scaled_pictures(const at::Tensor& frames) {
  const at::Tensor host = frames.cpu().contiguous();
  const int height = static_cast<int>(host.size(1)), width = static_cast<int>(host.size(2));
  const double scale = static_cast<double>(demo::kClipSize) / std::min(height, width);
  std::vector<cv::Mat> pictures;
  for (int64_t t = 0; t < host.size(0); ++t) {
    uint8_t* bytes = host.data_ptr<uint8_t>() + t * height * width * 3;
    const cv::Mat view(height, width, CV_8UC3, bytes);
    cv::Mat picture;
    if (scale == 1)
      picture = view.clone();
    else
      cv::resize(view, picture, {}, scale, scale, scale < 1 ? cv::INTER_AREA : cv::INTER_LINEAR);
    pictures.push_back(picture);
  }
  return pictures;
}

cv::Vec3b background_tone(const std::vector<cv::Mat>& pictures) {
  ColourMedian sample;
  // An odd step meets every column and row of a texture; a hundred thousand pixels are plenty.
  const size_t total = pictures.size() * pictures[0].total();
  const size_t step = (total / 100000) | 1;
  for (size_t i = 0; i < total; i += step) {
    const cv::Mat& picture = pictures[i / pictures[0].total()];
    sample.add(picture.ptr<cv::Vec3b>()[i % pictures[0].total()]);
  }
  return sample.value();
}

// The largest connected part with an area that a subject may have; empty where there is none. With a hint, the part
// that shares most pixels with it.
cv::Mat main_part(const cv::Mat& mask, const cv::Mat& hint = {}) {
  cv::Mat labels, stats, centroids;
  const int count = cv::connectedComponentsWithStats(mask, labels, stats, centroids, 8, CV_32S);
  std::vector<int> score(static_cast<size_t>(count), 0);
  for (int i = 1; i < count; ++i) score[i] = hint.empty() ? stats.at<int>(i, cv::CC_STAT_AREA) : 0;
  if (!hint.empty()) {
    const uint8_t* wanted = hint.ptr<uint8_t>();
    const int* label = labels.ptr<int>();
    for (size_t i = 0, end = mask.total(); i < end; ++i)
      if (wanted[i]) ++score[label[i]];
  }
  int best = 0;
  score[0] = 0;
  for (int i = 1; i < count; ++i) {
    const int area = stats.at<int>(i, cv::CC_STAT_AREA);
    const bool possible = area >= kMinArea && area <= kMaxShare * static_cast<double>(mask.total());
    if (possible && score[i] > score[best]) best = i;
  }
  return best ? cv::Mat(labels == best) : cv::Mat();
}

// Where a frame clearly differs from the background's tone; empty where nothing does.
cv::Mat seed(const cv::Mat& picture, cv::Vec3f tone, float distance) {
  const cv::Mat lab = to_lab(picture);
  cv::Mat mask(picture.size(), CV_8U);
  const cv::Vec3f* from = lab.ptr<cv::Vec3f>();
  uint8_t* to = mask.ptr<uint8_t>();
  for (size_t i = 0, end = picture.total(); i < end; ++i) {
    const cv::Vec3f difference = from[i] - tone;
    to[i] = difference.dot(difference) > distance * distance ? 255 : 0;
  }
  // Removes stars, joints and other thin things of a texture.
  cv::morphologyEx(mask, mask, cv::MORPH_OPEN, cv::Mat::ones(3, 3, CV_8U));
  return main_part(mask);
}

// Median of the inner pixels, away from edges that blend with the background.
std::optional<cv::Vec3b> core_colour(const cv::Mat& picture, const cv::Mat& mask) {
  for (int margin = 3; margin >= 0; --margin) {
    cv::Mat core;
    cv::erode(mask, core, cv::Mat::ones(2 * margin + 1, 2 * margin + 1, CV_8U));
    ColourMedian colours;
    const uint8_t* inside = core.ptr<uint8_t>();
    const cv::Vec3b* pixels = picture.ptr<cv::Vec3b>();
    for (size_t i = 0, end = core.total(); i < end; ++i)
      if (inside[i]) colours.add(pixels[i]);
    if (colours.size() >= 20) return colours.value();
  }
  return std::nullopt;
}

// How much of each pixel the subject covers, 0..1: the position between tone and colour (edges blend in RGB levels).
cv::Mat coverage(const cv::Mat& picture, cv::Vec3b tone, cv::Vec3b colour) {
  const cv::Vec3f base(tone), axis = cv::Vec3f(colour) - base;
  const float length = std::max(axis.dot(axis), 1.0f);
  cv::Mat result(picture.size(), CV_32F);
  const cv::Vec3b* from = picture.ptr<cv::Vec3b>();
  float* to = result.ptr<float>();
  for (size_t i = 0, end = picture.total(); i < end; ++i)
    to[i] = std::clamp((cv::Vec3f(from[i]) - base).dot(axis) / length, 0.0f, 1.0f);
  return result;
}

cv::Mat ideal_shape(demo::Shape shape, cv::Size size, cv::Point2d centre, double radius) {
  constexpr int kShift = 8;  // fillPoly's fractional bits
  std::vector<cv::Point> points;
  for (const auto& [x, y] : demo::outline(shape))
    points.emplace_back(cvRound((centre.x + radius * x) * (1 << kShift)),
                        cvRound((centre.y + radius * y) * (1 << kShift)));
  cv::Mat mask = cv::Mat::zeros(size, CV_8U);
  cv::fillPoly(mask, std::vector<std::vector<cv::Point>>{points}, 255, cv::LINE_8, kShift);
  return mask;
}

double outline_area(demo::Shape shape) {
  std::vector<cv::Point2f> points;
  for (const auto& [x, y] : demo::outline(shape)) points.emplace_back(static_cast<float>(x), static_cast<float>(y));
  return cv::contourArea(points);
}

// Fills in centre, area and overlaps from the coverage around the mask, at kUpscale times the resolution.
void measure(SubjectInFrame& subject, const cv::Mat& cover, const cv::Rect& box) {
  const int margin = 4;
  const cv::Rect area = cv::Rect(box.x - margin, box.y - margin, box.width + 2 * margin, box.height + 2 * margin) &
                        cv::Rect({}, cover.size());
  cv::Mat near, fine;
  cv::dilate(subject.mask(area), near, cv::Mat::ones(3, 3, CV_8U));
  cv::Mat crop = cv::Mat::zeros(area.size(), CV_32F);
  cover(area).copyTo(crop, near);
  cv::resize(crop, fine, {}, kUpscale, kUpscale, cv::INTER_CUBIC);
  std::vector<std::vector<cv::Point>> contours;
  cv::findContours(cv::Mat(fine > 0.5f), contours, cv::RETR_EXTERNAL, cv::CHAIN_APPROX_NONE);
  const auto largest = std::max_element(contours.begin(), contours.end(), [](const auto& a, const auto& b) {
    return cv::contourArea(a) < cv::contourArea(b);
  });
  cv::Mat mask = cv::Mat::zeros(fine.size(), CV_8U);
  if (largest != contours.end())  // without holes
    cv::drawContours(mask, contours, static_cast<int>(largest - contours.begin()), 255, cv::FILLED);
  const cv::Moments moments = cv::moments(mask, true);
  if (moments.m00 < 1) return;
  const cv::Point2d centre(moments.m10 / moments.m00, moments.m01 / moments.m00);
  subject.found = true;
  subject.area = moments.m00 / (kUpscale * kUpscale);
  subject.centre = {area.x + (centre.x + 0.5) / kUpscale - 0.5, area.y + (centre.y + 0.5) / kUpscale - 0.5};
  subject.whole = box.x > 0 && box.y > 0 && box.br().x < cover.cols && box.br().y < cover.rows;
  // A larger canvas, so that no ideal shape is cut off.
  const int border = 8 * kUpscale;
  cv::Mat canvas;
  cv::copyMakeBorder(mask, canvas, border, border, border, border, cv::BORDER_CONSTANT, 0);
  for (size_t i = 0; i < subject.overlap.size(); ++i) {
    const auto shape = static_cast<demo::Shape>(i);
    const double radius = std::sqrt(moments.m00 / outline_area(shape));
    const cv::Mat ideal = ideal_shape(shape, canvas.size(), centre + cv::Point2d(border, border), radius);
    subject.overlap[i] = static_cast<double>(cv::countNonZero(canvas & ideal)) / cv::countNonZero(canvas | ideal);
  }
}

}  // namespace

cv::Vec3f to_lab(cv::Vec3b rgb) {
  return to_lab(cv::Mat(1, 1, CV_8UC3, cv::Scalar(rgb[0], rgb[1], rgb[2]))).at<cv::Vec3f>(0);
}

SubjectTrack track_subject(const at::Tensor& frames) {
  check_frames(frames, "frames");
  if (frames.size(0) < 1 || frames.size(1) < 16 || frames.size(2) < 16)
    fail_usage("cannot measure {} frames of {}x{}: a frame with sides of at least 16 pixels is needed", frames.size(0),
               frames.size(2), frames.size(1));
  SubjectTrack track;
  track.pictures = scaled_pictures(frames);
  const cv::Vec3b tone = background_tone(track.pictures);

  std::vector<cv::Mat> seeds;
  for (const float distance : kSeedDistance) {
    seeds.clear();
    ColourMedian colours;
    for (const cv::Mat& picture : track.pictures) {
      seeds.push_back(seed(picture, to_lab(tone), distance));
      if (seeds.back().empty()) continue;
      if (const auto colour = core_colour(picture, seeds.back())) colours.add(*colour);
    }
    if (colours.size() == 0) continue;
    track.colour = colours.value();
    break;
  }

  for (size_t t = 0; t < track.pictures.size(); ++t) {
    SubjectInFrame subject;
    subject.mask = cv::Mat::zeros(track.pictures[t].size(), CV_8U);
    if (track.colour) {
      const cv::Mat cover = coverage(track.pictures[t], tone, *track.colour);
      const cv::Mat part = main_part(cover > 0.5f, seeds[t]);
      if (!part.empty()) {
        subject.mask = part;
        measure(subject, cover, cv::boundingRect(part));
      }
    }
    track.frames.push_back(std::move(subject));
  }
  return track;
}

}  // namespace longtake
