#include "video_io/fitted_video.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>

#include "base/error.h"
#include "runtime/fragments.h"

namespace longtake {
namespace {

constexpr int64_t kMaxFrames = 1'000'000;
constexpr int64_t kPartBytes = int64_t{64} << 20;  // of the file's frames that are held at once

// The middle of the new rate's frame `index`, as a frame of the file.
int64_t source_of(int64_t index, const VideoInfo& info, int fps) {
  return (2 * index + 1) * info.fps_numerator / (2 * int64_t{info.fps_denominator} * fps);
}

}  // namespace

FittedVideo::FittedVideo(std::filesystem::path path, int64_t height, int64_t width, int fps, int64_t keep)
    : path_(std::move(path)), fps_(fps), info_(probe(path_)), fit_(info_.height, info_.width, height, width) {
  LONGTAKE_CHECK(fps >= 1 && keep >= 1, "expected a frame rate and a number of frames, found {} and {}", fps, keep);
  if (!(info_.fps > 0)) fail_file("cannot go on from {}: it tells no frame rate; convert it to an mp4 that does", path_.string());
  pass([&](const at::Tensor& frames) {
    frames_ += frames.size(0);
    const at::Tensor all = last_.defined() ? at::cat({last_, frames}) : frames;
    const int64_t n = std::min(keep, all.size(0));
    last_ = all.narrow(0, all.size(0) - n, n).clone();
  });
}

void FittedVideo::read(const std::function<void(const at::Tensor& frames)>& take) const {
  int64_t count = 0;
  pass([&](const at::Tensor& frames) {
    count += frames.size(0);
    take(frames);
  });
  if (count != frames_)
    fail_file("{} has changed while it was read: {} frames, then {}; leave it alone and begin again", path_.string(), frames_, count);
}

void FittedVideo::pass(const std::function<void(const at::Tensor& frames)>& take) const {
  VideoReader reader(path_);
  const int64_t part_frames = std::clamp<int64_t>(kPartBytes / (int64_t{info_.height} * info_.width * 3), 1, kShownAtOnce);
  std::vector<at::Tensor> waiting;
  int64_t next = 0, first = 0;  // of the new rate, and the part's first frame of the file
  const auto hand_out = [&] {
    if (!waiting.empty()) take(at::stack(waiting));
    waiting.clear();
  };
  const auto show = [&](const at::Tensor& frame) {
    if (++next > kMaxFrames)
      fail_file("cannot go on from {}: at {} fps it has more than {} frames; cut it first", path_.string(), fps_, kMaxFrames);
    waiting.push_back(frame);
    if (static_cast<int64_t>(waiting.size()) == kShownAtOnce) hand_out();
  };
  at::Tensor last;
  for (;;) {
    const at::Tensor part = reader.read(part_frames);
    const int64_t n = part.size(0);
    if (n == 0) break;
    if (part.size(1) != info_.height || part.size(2) != info_.width)
      fail_file("{} has changed while it was read; leave it alone and begin again", path_.string());
    for (int64_t i = 0; i < n; ++i) {
      if (source_of(next, info_, fps_) > first + i) continue;
      const at::Tensor frame = fit_(part.narrow(0, i, 1))[0];
      while (source_of(next, info_, fps_) <= first + i) show(frame);
    }
    last = part.narrow(0, n - 1, 1).clone();
    first += n;
  }
  if (next == 0 && last.defined()) show(fit_(last)[0]);  // shorter than half a frame of the new rate
  hand_out();
}

std::string FittedVideo::note() const {
  std::string done = fit_.note();
  const bool same_rate = int64_t{info_.fps_numerator} == int64_t{fps_} * info_.fps_denominator;
  const std::string rate = same_rate ? fmt::format("{} frames", frames_) : fmt::format("{} frames at {} fps", frames_, fps_);
  if (done.empty()) done = fmt::format("{}x{}", info_.height, info_.width);
  return fmt::format("{:.5g} fps, {}; {}", info_.fps, done, rate);
}

}  // namespace longtake
