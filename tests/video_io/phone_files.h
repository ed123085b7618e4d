// Files as phones write them: pictures and videos that are stored lying, and say how to turn them.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/flip.h>

#include <array>
#include <cmath>
#include <stdexcept>
#include <string>

#include "video_io/av.h"

namespace longtake {

// uint8 [H, W, 3] as a JPEG (libavcodec's encoder, 4:4:4) without Exif.
inline std::string jpeg_of(const at::Tensor& rgb) {
  const int height = static_cast<int>(rgb.size(0)), width = static_cast<int>(rgb.size(1));
  const AvPtr<AVCodecContext> encoder(av_allocated(avcodec_alloc_context3(avcodec_find_encoder(AV_CODEC_ID_MJPEG))));
  encoder->width = width;
  encoder->height = height;
  encoder->pix_fmt = AV_PIX_FMT_YUVJ444P;
  encoder->time_base = {1, 1};
  encoder->flags |= AV_CODEC_FLAG_QSCALE;
  encoder->global_quality = FF_QP2LAMBDA;
  AvPtr<AVFrame> frame(av_allocated(av_frame_alloc()));
  frame->width = width;
  frame->height = height;
  frame->format = AV_PIX_FMT_YUVJ444P;
  frame->quality = encoder->global_quality;
  AvPtr<AVPacket> packet(av_allocated(av_packet_alloc()));
  if (avcodec_open2(encoder.get(), nullptr, nullptr) < 0 || av_frame_get_buffer(frame.get(), 0) < 0) throw std::runtime_error("no JPEG encoder");
  // The colours do not matter, only where they are: red as Y, green as Cb, blue as Cr.
  for (int c = 0; c < 3; ++c)
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) frame->data[c][y * frame->linesize[c] + x] = rgb[y][x][c].item<uint8_t>();
  if (avcodec_send_frame(encoder.get(), frame.get()) < 0 || avcodec_receive_packet(encoder.get(), packet.get()) < 0)
    throw std::runtime_error("encoding a JPEG failed");
  return {reinterpret_cast<const char*>(packet->data), static_cast<size_t>(packet->size)};
}

// The same JPEG with an Exif segment (2.3, section 4.5) whose one entry is Orientation, 1 ... 8, in either byte order.
inline std::string with_orientation(const std::string& jpeg, int orientation, bool big_endian = false) {
  const auto number = [&](uint32_t value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * (big_endian ? bytes - 1 - i : i)));
    return out;
  };
  std::string exif("Exif\0\0", 6);
  exif += (big_endian ? "MM" : "II") + number(42, 2) + number(8, 4);
  exif += number(1, 2);                                                                      // entries
  exif += number(0x0112, 2) + number(3, 2) + number(1, 4) + number(static_cast<uint32_t>(orientation), 2) + number(0, 2);  // Orientation, SHORT
  exif += number(0, 4);                                                                      // no further directory
  const size_t length = exif.size() + 2;
  return jpeg.substr(0, 2) + "\xff\xe1" + static_cast<char>(length >> 8) + static_cast<char>(length) + exif + jpeg.substr(2);
}

// A stored picture [..., H, W, 3] as Exif's orientation shows it (CIPA DC-008, table 6: where row 0 and column 0 belong).
inline at::Tensor as_oriented(const at::Tensor& stored, int orientation) {
  const auto mirrored = [](const at::Tensor& x) { return at::flip(x, {-2}); };
  const auto upside_down = [](const at::Tensor& x) { return at::flip(x, {-3}); };
  const at::Tensor turned = stored.transpose(-3, -2);  // row 0 on the left, column 0 at the top
  switch (orientation) {
    case 2: return mirrored(stored);
    case 3: return upside_down(mirrored(stored));
    case 4: return upside_down(stored);
    case 5: return turned;
    case 6: return mirrored(turned);              // row 0 on the right
    case 7: return mirrored(upside_down(turned));
    case 8: return upside_down(turned);           // column 0 at the bottom
    default: return stored;
  }
}

// An mp4 whose track asks to be turned clockwise by so many degrees (a multiple of 90), as phones held upright write them.
inline std::string turned_mp4(std::string mp4, int clockwise) {
  // Behind the type: version and flags, two times, track, reserved, duration, 8 reserved, layer, group, volume, reserved.
  const size_t matrix = mp4.find("tkhd") + 4 + 4 + 4 + 4 + 4 + 4 + 4 + 8 + 8;
  constexpr double kDegree = 3.14159265358979323846 / 180;
  const int c = static_cast<int>(std::lround(std::cos(clockwise * kDegree))), s = static_cast<int>(std::lround(std::sin(clockwise * kDegree)));
  const std::array<int32_t, 9> values{c * 65536, s * 65536, 0, -s * 65536, c * 65536, 0, 0, 0, 1 << 30};
  for (size_t i = 0; i < values.size(); ++i)
    for (int byte = 0; byte < 4; ++byte) mp4[matrix + 4 * i + static_cast<size_t>(byte)] = static_cast<char>(static_cast<uint32_t>(values[i]) >> (24 - 8 * byte));
  return mp4;
}

}  // namespace longtake
