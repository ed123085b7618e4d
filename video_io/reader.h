// Frames and facts from a video file, through libavformat, libavcodec and libswscale.
//
// Input is not trusted. Only local files in real video containers are opened (no playlists or lists of files, which
// could name others), sizes are limited, and everything that is not a readable video gives an Error (bad_file) with the
// path: missing, not a video, no frames, no decoder, truncated, damaged, changing its size.
//
// Frames: uint8 RGB, [n, H, W, 3], CPU, contiguous, rotated as the file asks for (phones). YUV is converted by the
// matrix and range that the file names; without a name BT.709 from 720 lines on and BT.601 below.
#pragma once

#include "video_io/metadata.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace longtake {

struct VideoInfo {
  std::string codec;          // "h264"
  std::string pixel_format;   // "yuv420p"
  int width = 0, height = 0;  // as shown, after rotation
  int rotation = 0;           // degrees counterclockwise that the file asks for: 0, 90, 180 or 270
  int fps_numerator = 0, fps_denominator = 1;
  double fps = 0;         // average frame rate
  int64_t frames = 0;     // from the container, else by counting packets
  double duration = 0;    // seconds
  std::string container;  // "mp4", "matroska", ...
  std::string matrix;     // "bt709", "unknown", ...
  Tags tags;              // the container's metadata
};

VideoInfo probe(const std::filesystem::path& path);

class VideoReader {
 public:
  explicit VideoReader(const std::filesystem::path& path);
  ~VideoReader();
  VideoReader(const VideoReader&) = delete;
  VideoReader& operator=(const VideoReader&) = delete;

  const VideoInfo& info() const;

  // The next up to `count` frames; fewer, down to none, only at the end.
  at::Tensor read(int64_t count);

 private:
  struct Stream;
  std::unique_ptr<Stream> stream_;
};

// All frames; an Error (no_memory) beyond 16 GiB of them, before they are read where the container tells their number.
at::Tensor read_video(const std::filesystem::path& path);

}  // namespace longtake
