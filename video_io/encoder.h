// Frames to H.264 packets through libx264: yuv420p, BT.709 (matrix, primaries and transfer tagged, tv range), a key frame
// every two seconds.
//
// Errors: usage for wrong options (video_options.h), bad_file with the output's path for what libav refuses.
#pragma once

#include "video_io/av.h"
#include "video_io/video_options.h"

#include <cstdint>
#include <functional>

namespace longtake {

class H264Encoder {
 public:
  // Packets in decoding order; times in units of 1 / fps.
  using OnPacket = std::function<void(AVPacket&)>;

  H264Encoder(const VideoWriterOptions& options, OnPacket on_packet);

  // A frame of H x W x 3 bytes; `index` is its time.
  void push(const uint8_t* rgb, int64_t index);
  // Hands out all that is still inside. The frame behind starts anew: a key frame, and nothing refers across it.
  void drain();

  // Parameters for the container; times as above.
  const AVCodecContext& context() const { return *encoder_; }

 private:
  void open();
  void open_scaler();
  void receive();

  VideoWriterOptions options_;
  OnPacket on_packet_;
  AvPtr<AVCodecContext> encoder_;
  AvPtr<SwsContext> scaler_;
  AvPtr<AVFrame> rgb_, yuv_;
  AvPtr<AVPacket> packet_;
  bool drained_ = false;
};

}  // namespace longtake
