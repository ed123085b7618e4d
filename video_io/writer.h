// Frames to an H.264 mp4: encoder.h into mp4_file.h.
//
// Constant integer frame rate with exact timestamps, index in front of the pictures (faststart). Written under a temporary
// name beside the target and renamed by finish(); without finish() nothing stays behind.
//
// With `growing`, the video grows there in fragments that players can open: each push of a tensor ends one, once it has
// half a second. finish() copies the packets into the target, nothing is encoded again. The growing file stays where it is.
//
// Frames: uint8 RGB, [T, H, W, 3], any device and strides, or H * W * 3 bytes.
// Errors: usage for wrong options (odd sizes, rates, crf, preset); bad_file for everything about the file (unwritable,
// full disk, no libx264 in the build of libavcodec), always with the path; internal for frames of another shape.
#pragma once

#include "video_io/video_options.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace longtake {

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

  // Writes what is still in the encoder and puts the file in place. Needs at least one frame. `tags` replace those of the
  // options where the video grew.
  void finish(const std::optional<Tags>& tags = std::nullopt);

  int64_t frames() const { return frames_; }
  int64_t playable() const;  // frames that a player finds in the growing file

 private:
  struct Stream;
  std::unique_ptr<Stream> stream_;  // none after finish() or an error
  int64_t frames_ = 0;
};

}  // namespace longtake
