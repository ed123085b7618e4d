#include "video_io/fit.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "base/error.h"
#include "video_io/frames.h"

namespace longtake {

FrameFit::FrameFit(int64_t from_height, int64_t from_width, int64_t to_height, int64_t to_width)
    : from_height_(from_height), from_width_(from_width), to_height_(to_height), to_width_(to_width), height_(from_height), width_(from_width) {
  LONGTAKE_CHECK(std::min({from_height, from_width, to_height, to_width}) >= 1, "expected sizes of at least 1x1");
  const double shape = static_cast<double>(to_width) / static_cast<double>(to_height);
  if (from_width * to_height > from_height * to_width)
    width_ = std::clamp<int64_t>(std::llround(static_cast<double>(from_height) * shape), 1, from_width);
  else
    height_ = std::clamp<int64_t>(std::llround(static_cast<double>(from_width) / shape), 1, from_height);
}

std::string FrameFit::note() const {
  std::string out = fmt::format("{}x{}", from_height_, from_width_);
  const bool cut = height_ != from_height_ || width_ != from_width_, scaled = height_ != to_height_ || width_ != to_width_;
  if (cut) out += fmt::format(" cut to {}x{}", height_, width_);
  if (scaled) out += fmt::format("{} scaled to {}x{}", cut ? "," : "", to_height_, to_width_);
  return cut || scaled ? out : "";
}

at::Tensor FrameFit::operator()(const at::Tensor& frames) const {
  check_frames(frames, "frames");
  LONGTAKE_CHECK(frames.size(1) == from_height_ && frames.size(2) == from_width_, "expected frames of {}x{}, found {}x{}", from_height_,
                 from_width_, frames.size(1), frames.size(2));
  const at::Tensor part =
      frames.narrow(1, (from_height_ - height_) / 2, height_).narrow(2, (from_width_ - width_) / 2, width_).contiguous();
  if (height_ == to_height_ && width_ == to_width_) return part;
  at::Tensor out = at::empty({frames.size(0), to_height_, to_width_, 3}, at::kByte);
  const auto mat = [](const at::Tensor& t, int64_t frame) {
    return cv::Mat(static_cast<int>(t.size(1)), static_cast<int>(t.size(2)), CV_8UC3,
                   t.data_ptr<uint8_t>() + frame * t.size(1) * t.size(2) * 3);
  };
  const int how = height_ > to_height_ || width_ > to_width_ ? cv::INTER_AREA : cv::INTER_CUBIC;
  for (int64_t f = 0; f < frames.size(0); ++f) {
    cv::Mat target = mat(out, f);
    cv::resize(mat(part, f), target, target.size(), 0, 0, how);
  }
  return out;
}

}  // namespace longtake
