// A video file at another size and frame rate, as the beginning of a new one.
//
// Frames are cut and scaled by fit.h. A frame of the new rate shows what the file shows in the middle of its time: frames are left out
// or repeated, never blended. Time runs at the file's average rate. Passes go through the file from the start and hold a few frames at
// once. Errors: bad_file as in reader.h, and for a file that tells no frame rate or gives more than a million frames.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "video_io/fit.h"
#include "video_io/reader.h"

namespace longtake {

class FittedVideo {
 public:
  // Goes through the file once: counts its frames and keeps the last `keep` of them.
  FittedVideo(std::filesystem::path path, int64_t height, int64_t width, int fps, int64_t keep);

  int64_t frames() const { return frames_; }         // at the new rate, at least 1
  const at::Tensor& last() const { return last_; }   // uint8 [n, H, W, 3]: the last frames, n = min(keep, frames())

  // All frames in order, a few at a time: uint8 [n, H, W, 3]. Error (bad_file) where there are not as many as before.
  void read(const std::function<void(const at::Tensor& frames)>& take) const;

  // What the file is and what is done to it: "720x1280 at 30 fps: cut to ..., scaled to ..., 72 frames at 24 fps".
  std::string note() const;

 private:
  void pass(const std::function<void(const at::Tensor& frames)>& take) const;

  std::filesystem::path path_;
  int fps_;
  VideoInfo info_;
  FrameFit fit_;
  int64_t frames_ = 0;
  at::Tensor last_;
};

}  // namespace longtake
