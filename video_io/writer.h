// Frames to an H.264 mp4 through libavcodec.
//
// yuv420p, BT.709 (matrix, primaries and transfer tagged, tv range), constant integer frame rate with exact timestamps,
// a key frame every two seconds, index in front of the pictures (faststart). Written under a temporary name beside the
// target and renamed by finish(); without finish() nothing stays behind.
//
// Frames: uint8 RGB, [T, H, W, 3], any device and strides, or H * W * 3 bytes.
// Errors: usage for wrong options (odd sizes, rates, crf, preset); bad_file for everything about the file (unwritable,
// full disk, no libx264 in the build of libavcodec), always with the path; internal for frames of another shape.
#pragma once

#include "video_io/metadata.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace longtake {

struct VideoWriterOptions {
  std::filesystem::path path;
  int width = 0, height = 0;  // even
  int fps = 24;               // 1 .. 1000
  int crf = 18;               // 0 (lossless) .. 51
  std::string preset = "medium";
  Tags tags;  // of title, comment and description; others are refused
};

// Throws unless a VideoWriter with these options can be opened, the encoder included; leaves nothing behind.
void check_video_options(const VideoWriterOptions& options);

class VideoWriter {
 public:
  explicit VideoWriter(const VideoWriterOptions& options);
  ~VideoWriter();
  VideoWriter(const VideoWriter&) = delete;
  VideoWriter& operator=(const VideoWriter&) = delete;

  // After an error the temporary file is gone and the writer takes no more frames.
  void push(const at::Tensor& frames);
  void push(std::span<const uint8_t> frame);

  // Writes what is still in the encoder and puts the file in place. Needs at least one frame.
  void finish();

  int64_t frames() const { return frames_; }

 private:
  struct Stream;
  std::unique_ptr<Stream> stream_;  // none after finish() or an error
  int64_t frames_ = 0;
};

}  // namespace longtake
