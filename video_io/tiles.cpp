#include "video_io/tiles.h"

#include "base/error.h"
#include "video_io/frames.h"
#include "video_io/work_map.h"

#include <ATen/ops/empty.h>
#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>

namespace longtake {
namespace {

constexpr int kTargetWidth = 1920, kLeastTileWidth = 256, kColumns = 4;
constexpr int kStripWidth = 128;  // of one picture in a film strip
const cv::Scalar kPaper(24, 26, 32), kInk(240, 240, 240), kFaint(170, 176, 186);

cv::Mat picture_of(const at::Tensor& frames, int64_t t) {
  const at::Tensor frame = frames[t].cpu().contiguous();
  return cv::Mat(static_cast<int>(frame.size(0)), static_cast<int>(frame.size(1)), CV_8UC3, frame.data_ptr<uint8_t>())
      .clone();
}

cv::Mat scaled(const cv::Mat& picture, int width, int height) {
  cv::Mat out;
  cv::resize(picture, out, {width, height}, 0, 0, width > picture.cols ? cv::INTER_CUBIC : cv::INTER_AREA);
  return out;
}

cv::Mat heat_picture(const Tile& tile, int64_t t, int width, int height) {
  const at::Tensor map = tile.heat[std::min(latent_of_frame(t, tile.missing_frames), tile.heat.size(0) - 1)].contiguous();
  const auto rows = static_cast<int>(map.size(0)), columns = static_cast<int>(map.size(1));
  cv::Mat small(rows, columns, CV_8UC3);
  const float* value = map.data_ptr<float>();
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) {
      const auto colour = heat_colour(*value++);
      small.at<cv::Vec3b>(r, c) = {colour[0], colour[1], colour[2]};
    }
  cv::Mat out;
  cv::resize(small, out, {width, height}, 0, 0, cv::INTER_NEAREST);
  return out;
}

void write(cv::Mat& canvas, const std::string& text, cv::Point baseline, int width, double size,
           const cv::Scalar& colour) {
  std::string ascii;
  for (const char c : text)
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) ascii += static_cast<unsigned char>(c) < 0x80 ? c : '?';
  int below = 0;
  const cv::Size box = cv::getTextSize(ascii, cv::FONT_HERSHEY_SIMPLEX, size, 1, &below);
  const double fitted = box.width > width ? size * width / box.width : size;
  cv::putText(canvas, ascii, baseline, cv::FONT_HERSHEY_SIMPLEX, fitted, colour, 1, cv::LINE_AA);
}

at::Tensor to_tensor(const cv::Mat& canvas) {
  at::Tensor out = at::empty({canvas.rows, canvas.cols, 3}, at::kByte);
  canvas.copyTo(cv::Mat(canvas.rows, canvas.cols, CV_8UC3, out.data_ptr<uint8_t>()));
  return out;
}

int even(double value) { return std::max(2, static_cast<int>(std::lround(value / 2)) * 2); }

// Tile size for a number of tiles: label, picture, then the heat map at half size with the note beside it.
struct Grid {
  int columns, width, height, picture_height, gap = 8, label = 24;

  Grid(size_t count, const at::Tensor& frames) {
    columns = static_cast<int>(std::min<size_t>(count, kColumns));
    const auto w = static_cast<double>(frames.size(2)), h = static_cast<double>(frames.size(1));
    const double room = static_cast<double>(kTargetWidth) / columns - gap;
    width = even(std::min(std::max<double>(w, kLeastTileWidth), room));
    picture_height = even(h * width / w);
    height = label + picture_height + picture_height / 2 + gap;
  }
};

}  // namespace

std::array<uint8_t, 3> heat_colour(double share) {
  // Perceived brightness rises evenly along these five stops (after matplotlib's "inferno").
  static constexpr std::array<std::array<double, 3>, 5> stops = {
      {{18, 12, 60}, {110, 30, 110}, {200, 60, 75}, {250, 140, 30}, {250, 250, 160}}};
  const double place = std::clamp(share, 0.0, 1.0) * (stops.size() - 1);
  const auto below = std::min(static_cast<size_t>(place), stops.size() - 2);
  std::array<uint8_t, 3> colour{};
  for (size_t i = 0; i < 3; ++i)
    colour[i] = static_cast<uint8_t>(
        std::lround(stops[below][i] + (place - static_cast<double>(below)) * (stops[below + 1][i] - stops[below][i])));
  return colour;
}

at::Tensor tile_frame(std::span<const Tile> tiles, int64_t t) {
  LONGTAKE_CHECK(!tiles.empty(), "expected a tile");
  const Grid grid(tiles.size(), tiles.front().frames);
  const int rows = (static_cast<int>(tiles.size()) + grid.columns - 1) / grid.columns;
  cv::Mat canvas(even(rows * (grid.height + grid.gap) + grid.gap),
                 even(grid.columns * (grid.width + grid.gap) + grid.gap), CV_8UC3, kPaper);
  for (size_t i = 0; i < tiles.size(); ++i) {
    const Tile& tile = tiles[i];
    check_frames(tile.frames, "a tile's frames");
    const int x = grid.gap + static_cast<int>(i) % grid.columns * (grid.width + grid.gap);
    int y = grid.gap + static_cast<int>(i) / grid.columns * (grid.height + grid.gap);
    write(canvas, tile.label, {x, y + grid.label - 8}, grid.width, 0.5, kInk);
    y += grid.label;
    scaled(picture_of(tile.frames, std::min(t, tile.frames.size(0) - 1)), grid.width, grid.picture_height)
        .copyTo(canvas(cv::Rect(x, y, grid.width, grid.picture_height)));
    y += grid.picture_height + grid.gap;
    const int half = grid.width / 2, half_height = grid.picture_height / 2;
    if (tile.heat.defined())
      heat_picture(tile, t, half, half_height).copyTo(canvas(cv::Rect(x, y, half, half_height)));
    size_t start = 0;
    for (int line = 0; start <= tile.note.size() && line < 6; ++line) {
      const size_t end = std::min(tile.note.find('\n', start), tile.note.size());
      write(canvas, tile.note.substr(start, end - start), {x + half + 8, y + 14 + 18 * line}, half - 8, 0.42, kFaint);
      start = end + 1;
    }
  }
  return to_tensor(canvas);
}

at::Tensor film_strip(const Tile& tile, const at::Tensor& reference, std::span<const int64_t> times) {
  check_frames(tile.frames, "a tile's frames");
  const auto count = static_cast<int>(times.size());
  const int height =
                even(static_cast<double>(tile.frames.size(1)) * kStripWidth / static_cast<double>(tile.frames.size(2))),
            gap = 2;
  const int bands = 1 + reference.defined() + tile.heat.defined();
  cv::Mat canvas(even(bands * (height + gap)), even(count * (kStripWidth + gap)), CV_8UC3, kPaper);
  for (int i = 0; i < count; ++i) {
    const auto at = [&](int band) {
      return canvas(cv::Rect(i * (kStripWidth + gap), band * (height + gap), kStripWidth, height));
    };
    const cv::Mat picture = picture_of(tile.frames, times[i]);
    int band = 0;
    scaled(picture, kStripWidth, height).copyTo(at(band++));
    if (reference.defined()) {
      cv::Mat difference;
      cv::absdiff(picture, picture_of(reference, times[i]), difference);
      scaled(difference * kDifferenceGain, kStripWidth, height).copyTo(at(band++));
    }
    if (tile.heat.defined()) heat_picture(tile, times[i], kStripWidth, height).copyTo(at(band++));
  }
  return to_tensor(canvas);
}

}  // namespace longtake
