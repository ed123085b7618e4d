// What reader and writer share of libav (FFmpeg 5.1 and newer): owners for its objects and its errors as text.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/frame.h>
#include <libswscale/swscale.h>
}

#include <filesystem>
#include <memory>
#include <string>

namespace longtake {

struct AvDelete {
  void operator()(AVCodecContext* context) const { avcodec_free_context(&context); }
  void operator()(AVFrame* frame) const { av_frame_free(&frame); }
  void operator()(AVPacket* packet) const { av_packet_free(&packet); }
  void operator()(SwsContext* context) const { sws_freeContext(context); }
};
struct AvInputDelete {
  void operator()(AVFormatContext* context) const { avformat_close_input(&context); }
};
struct AvOutputDelete {
  void operator()(AVFormatContext* context) const {
    if (context->pb) avio_closep(&context->pb);
    avformat_free_context(context);
  }
};
template <class T>
using AvPtr = std::unique_ptr<T, AvDelete>;
using AvInput = std::unique_ptr<AVFormatContext, AvInputDelete>;
using AvOutput = std::unique_ptr<AVFormatContext, AvOutputDelete>;

// The text of a libav error code, without a full stop.
std::string av_text(int code);

// Silences libav's own messages on stderr; our errors carry what the user needs. Idempotent; the level is process-wide.
void quiet_libav();

// A URL that names this file whatever characters it holds ("a:b.mp4" is not a protocol).
std::string file_url(const std::filesystem::path& path);

[[noreturn]] void fail_av_memory();

// The code, or the Error that a negative one means while `path` is written: no_memory, or bad_file with the path.
int check_write(int code, const std::filesystem::path& path);

// The object, or an Error (no_memory) where libav returned none.
template <class T>
T* av_allocated(T* object) {
  if (!object) fail_av_memory();
  return object;
}

}  // namespace longtake
