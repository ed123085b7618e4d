#include "video_io/plan_picture.h"

#include <ATen/ops/from_blob.h>

#include <opencv2/imgproc.hpp>

#include "base/error.h"

namespace longtake {
namespace {

constexpr int kMaxSide = 16000, kLabel = 120, kMargin = 24;

cv::Scalar colour_of(const PlanCell& cell) {
  if (!cell.known) return {214, 69, 65};
  const cv::Scalar full(28, 66, 120), rest = cell.rest == Rest::predict ? cv::Scalar(250, 205, 150) : cv::Scalar(225, 228, 232);
  return full * cell.share + rest * (1 - cell.share);
}

}  // namespace

at::Tensor draw_plan(const PlanGrid& grid) {
  const int rows = static_cast<int>(grid.rows.size());
  if (rows > kMaxSide - 2 * kMargin)
    fail_usage("the plan has {} chunks; a picture shows at most {}: look at it in the terminal", rows, kMaxSide - 2 * kMargin);
  const int height = std::clamp((kMaxSide - 2 * kMargin) / std::max(rows, 1), 1, 16);
  const int width = std::clamp((kMaxSide - kLabel - kMargin) / std::max(grid.steps, 1), 1, 16), gap = height > 4 ? 1 : 0;
  cv::Mat picture(2 * kMargin + rows * height, kLabel + kMargin + grid.steps * width, CV_8UC3, cv::Scalar(255, 255, 255));
  const auto write = [&](const std::string& text, int x, int y) {
    cv::putText(picture, text, {x, y}, cv::FONT_HERSHEY_SIMPLEX, 0.38, cv::Scalar(60, 60, 60), 1, cv::LINE_AA);
  };
  for (int s = 0; s < grid.steps; s += 10) write(fmt::format("{}", s + 1), kLabel + s * width, kMargin - 8);
  for (int r = 0; r < rows; ++r) {
    const PlanGrid::Row& row = grid.rows[static_cast<size_t>(r)];
    const int top = kMargin + r * height;
    if (height >= 12) write(fmt::format("window {} chunk {}", row.window + 1, row.chunk + 1), 4, top + height - 4);
    for (int s = 0; s < grid.steps && !row.prefix; ++s)
      cv::rectangle(picture, cv::Rect(kLabel + s * width, top, width - gap, height - gap), colour_of(row.cells[static_cast<size_t>(s)]), cv::FILLED);
  }
  return at::from_blob(picture.data, {picture.rows, picture.cols, 3}, at::kByte).clone();
}

}  // namespace longtake
