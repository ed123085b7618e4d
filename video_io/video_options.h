// How a video is to be written.
#pragma once

#include "video_io/metadata.h"

#include <filesystem>
#include <string>

namespace longtake {

struct VideoWriterOptions {
  std::filesystem::path path;
  int width = 0, height = 0;  // even
  int fps = 24;               // 1 .. 1000
  int crf = 18;               // 0 (lossless) .. 51
  std::string preset = "medium";
  Tags tags;  // of title, comment and description; others are refused
  // Where the video grows until it is finished; empty: only the finished file is ever seen.
  std::filesystem::path growing = {};
};

// Throws (usage) for what no encoder could do: odd sizes, rates, crf, preset.
void check_values(const VideoWriterOptions& options);

}  // namespace longtake
