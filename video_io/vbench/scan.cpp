#include "video_io/vbench/scan.h"

#include "base/utf8.h"
#include "video_io/av.h"

extern "C" {
#include <libavutil/log.h>
#include <libavutil/pixdesc.h>
}

#include <algorithm>
#include <cmath>
#include <mutex>

namespace longtake {
namespace {

constexpr int64_t kMaxPixels = int64_t{64} << 20;
constexpr int64_t kMaxFrames = 10'000'000;
constexpr size_t kMaxMessages = 5;

// libav reports through one callback for the whole process. Each scan decodes in its own thread alone, so a message belongs to
// the scan of the thread that it comes from.
thread_local std::vector<std::string>* messages_of_this_thread = nullptr;

void take_message(void* source, int level, const char* format, va_list arguments) {
  if (messages_of_this_thread == nullptr) return av_log_default_callback(source, level, format, arguments);
  if (level > AV_LOG_ERROR || messages_of_this_thread->size() >= kMaxMessages) return;
  char line[512] = {};
  int prefix = 1;
  av_log_format_line2(source, level, format, arguments, line, sizeof(line), &prefix);
  std::string text = printable(std::string(line).substr(0, std::string(line).find('\n')));
  if (!text.empty()) messages_of_this_thread->push_back(std::move(text));
}

class MessageScope {
 public:
  explicit MessageScope(std::vector<std::string>& messages) {
    static std::once_flag installed;
    std::call_once(installed, [] { av_log_set_callback(take_message); });
    messages_of_this_thread = &messages;
  }
  ~MessageScope() { messages_of_this_thread = nullptr; }
};

struct Scanner {
  VideoScan& scan;
  AvInput input = nullptr;
  AvPtr<AVCodecContext> decoder = nullptr;
  AvPtr<AVFrame> frame{av_allocated(av_frame_alloc())};
  AvPtr<AVPacket> packet{av_allocated(av_packet_alloc())};
  AVStream* track = nullptr;
  std::vector<int64_t> times = {};
  int64_t packets = 0, pictures = 0;

  bool failed(int code, const char* doing) {
    if (code >= 0) return false;
    scan.error = std::string(doing) + " failed with \"" + av_text(code) + "\"";
    return true;
  }

  bool open(const std::filesystem::path& path) {
    AVFormatContext* context = av_allocated(avformat_alloc_context());
    AVDictionary* options = nullptr;
    av_dict_set(&options, "protocol_whitelist", "file", 0);
    av_dict_set(&options, "format_whitelist", "mov,mp4,m4a,3gp,3g2,mj2", 0);
    const int code = avformat_open_input(&context, file_url(path).c_str(), nullptr, &options);  // frees on failure
    av_dict_free(&options);
    if (failed(code, "opening it as mp4")) return false;
    input.reset(context);
    if (failed(avformat_find_stream_info(context, nullptr), "finding its streams")) return false;
    const int index = av_find_best_stream(context, AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
    if (index < 0) return scan.error = "it holds no video stream", false;
    track = context->streams[index];
    const AVCodecParameters* parameters = track->codecpar;
    scan.width = parameters->width;
    scan.height = parameters->height;
    if (scan.width < 1 || scan.height < 1 || int64_t{scan.width} * scan.height > kMaxPixels) return scan.error = "its frame size makes no sense", false;
    const char* format = av_get_pix_fmt_name(static_cast<AVPixelFormat>(parameters->format));
    scan.pixel_format = format ? format : "unknown";
    const AVRational rate = track->avg_frame_rate;
    if (rate.num > 0 && rate.den > 0) scan.fps_numerator = rate.num, scan.fps_denominator = rate.den;
    return true;
  }

  bool open_decoder() {
    const AVCodec* codec = avcodec_find_decoder(track->codecpar->codec_id);
    if (!codec) return scan.error = "this build of libavcodec cannot decode it", false;
    decoder.reset(av_allocated(avcodec_alloc_context3(codec)));
    if (failed(avcodec_parameters_to_context(decoder.get(), track->codecpar), "reading its codec parameters")) return false;
    decoder->thread_count = 1;
    decoder->max_pixels = kMaxPixels;
    return !failed(avcodec_open2(decoder.get(), codec, nullptr), "opening its decoder");
  }

  bool drain() {
    for (;;) {
      const int code = avcodec_receive_frame(decoder.get(), frame.get());
      if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return true;
      if (failed(code, "decoding")) return false;
      ++pictures;
    }
  }

  bool read() {
    for (;;) {
      const int code = av_read_frame(input.get(), packet.get());
      if (code == AVERROR_EOF) break;
      if (failed(code, "reading")) return false;
      const bool wanted = packet->stream_index == track->index;
      int sent = 0;
      if (wanted) {
        ++packets;
        times.push_back(packet->pts);
        if (decoder) sent = avcodec_send_packet(decoder.get(), packet.get());
      }
      av_packet_unref(packet.get());
      if (packets > kMaxFrames) return scan.error = "it has more frames than any video of a benchmark", false;
      if (failed(sent, "decoding") || (decoder && !drain())) return false;
    }
    if (!decoder) return true;
    return !failed(avcodec_send_packet(decoder.get(), nullptr), "decoding") && drain();
  }

  void judge() {
    scan.frames = decoder ? pictures : packets;
    if (decoder && pictures < packets) scan.messages.push_back(fmt::format("only {} of {} frames could be decoded", pictures, packets));
    std::sort(times.begin(), times.end());
    if (times.empty() || times.front() == AV_NOPTS_VALUE || scan.fps() <= 0) return;
    const double unit = av_q2d(track->time_base);
    scan.start = static_cast<double>(times.front()) * unit;
    scan.constant_rate = true;
    // Containers round times to their unit.
    for (size_t i = 0; i < times.size(); ++i)
      if (std::abs(static_cast<double>(times[i] - times[0]) * unit - static_cast<double>(i) / scan.fps()) > unit) scan.constant_rate = false;
  }
};

}  // namespace

VideoScan scan_video(const std::filesystem::path& path, bool decode) {
  VideoScan scan;
  quiet_libav();
  const MessageScope scope(scan.messages);
  Scanner scanner{scan};
  if (scanner.open(path) && (!decode || scanner.open_decoder()) && scanner.read()) scanner.judge();
  if (scan.error.empty() && scan.frames == 0) scan.error = "it holds no frames";
  return scan;
}

}  // namespace longtake
