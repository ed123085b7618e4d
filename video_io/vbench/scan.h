// What a video file is like to a strict reader: whether it decodes without a word, and how its frames are timed.
//
// Input is not trusted; nothing is thrown for what the file holds: it is all in the result. Safe to call from several threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace longtake {

struct VideoScan {
  std::string error;                  // why it cannot be opened or read; the rest is then not to be relied on
  std::vector<std::string> messages;  // what libav complained about (errors only), as `ffmpeg -v error` would print it; a few
  int width = 0, height = 0;
  std::string pixel_format;
  int fps_numerator = 0, fps_denominator = 1;  // average frame rate
  int64_t frames = 0;                 // decoded, or packets where only those were read
  bool constant_rate = false;         // every frame lasts as long as the average says
  double start = 0;                   // seconds at which the first frame is shown

  bool integer_rate() const { return fps_numerator > 0 && fps_denominator == 1; }
  double fps() const { return fps_denominator == 0 ? 0 : static_cast<double>(fps_numerator) / fps_denominator; }
  double seconds() const { return fps() > 0 ? static_cast<double>(frames) / fps() : 0; }
};

// Reads every packet; with `decode` also every picture.
VideoScan scan_video(const std::filesystem::path& path, bool decode);

}  // namespace longtake
