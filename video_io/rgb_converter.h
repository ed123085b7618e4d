// Decoded frames of any pixel format to 8-bit RGB, through libswscale.
//
// YUV is converted by the matrix and range that the frame names; without a name BT.709 from 720 lines on and BT.601 below.
// Transparency is dropped. Error (bad_file) with the path for a pixel format that cannot be converted.
#pragma once

#include <cstdint>
#include <filesystem>

#include "video_io/av.h"

namespace longtake {

class RgbConverter {
 public:
  // target: height * width * 3 bytes. All frames have the size of the first.
  void convert(const AVFrame& frame, uint8_t* target, const std::filesystem::path& path);

 private:
  AvPtr<SwsContext> scaler_;
  AvPtr<AVFrame> rgb_;
};

}  // namespace longtake
