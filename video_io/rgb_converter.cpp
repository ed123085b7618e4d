#include "video_io/rgb_converter.h"

#include <cstring>

#include "base/error.h"

namespace longtake {

void RgbConverter::convert(const AVFrame& frame, uint8_t* target, const std::filesystem::path& path) {
  const int width = frame.width, height = frame.height;
  if (!rgb_) {
    rgb_.reset(av_allocated(av_frame_alloc()));
    rgb_->format = AV_PIX_FMT_RGB24;
    rgb_->width = width;
    rgb_->height = height;
    if (av_frame_get_buffer(rgb_.get(), 0) < 0) fail_av_memory();
  }
  LONGTAKE_CHECK(rgb_->width == width && rgb_->height == height, "expected a frame of {}x{}, found {}x{}", rgb_->width, rgb_->height, width,
                 height);
  const int flags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT;
  const auto format = static_cast<AVPixelFormat>(frame.format);
  // Takes over the old scaler, and frees it where it does not fit.
  scaler_.reset(sws_getCachedContext(scaler_.release(), width, height, format, width, height, AV_PIX_FMT_RGB24, flags, nullptr, nullptr,
                                     nullptr));
  if (!scaler_) fail_file("cannot read {}: its pixel format cannot be converted to RGB; convert it to another", path.string());
  const bool guess_bt709 = height >= 720;
  const int* matrix = sws_getCoefficients(frame.colorspace == AVCOL_SPC_UNSPECIFIED ? (guess_bt709 ? SWS_CS_ITU709 : SWS_CS_ITU601)
                                                                                    : static_cast<int>(frame.colorspace));
  const int full_range = frame.color_range == AVCOL_RANGE_JPEG;
  // Fails for RGB input, where there is nothing to set.
  sws_setColorspaceDetails(scaler_.get(), matrix, full_range, matrix, 1, 0, 1 << 16, 1 << 16);
  if (const int code = sws_scale(scaler_.get(), frame.data, frame.linesize, 0, height, rgb_->data, rgb_->linesize); code < 0)
    fail_file("cannot read {}: converting to RGB failed with \"{}\"; convert it to another format", path.string(), av_text(code));
  const size_t row = static_cast<size_t>(width) * 3;
  for (int y = 0; y < height; ++y)
    std::memcpy(target + y * row, rgb_->data[0] + y * static_cast<ptrdiff_t>(rgb_->linesize[0]), row);
}

}  // namespace longtake
