#include "video_io/reader.h"

#include "base/error.h"
#include "video_io/av.h"
#include "video_io/rgb_converter.h"

extern "C" {
#include <libavutil/display.h>
#include <libavutil/pixdesc.h>
}

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/rot90.h>

#include <cmath>
#include <cstring>

namespace longtake {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxPixels = int64_t{1} << 26;  // 8192 x 8192
constexpr int64_t kMaxBytes = int64_t{16} << 30;  // of frames held at once
constexpr int64_t kChunkFrames = 32;
constexpr const char* kContainers = "mov,matroska,webm,avi,gif,mpegts,ogg,flv,ivf,h264,hevc";

void check_is_file(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) fail_file("cannot read {}: no such file; check the path", path.string());
  if (fs::is_directory(status)) fail_file("cannot read {}: it is a folder; name a video file", path.string());
  if (!fs::is_regular_file(status))
    fail_file("cannot read {}: it is not a regular file; name a video file", path.string());
}

// Degrees counterclockwise by which the stored picture must be turned; other angles than multiples of 90 are ignored.
int rotation_of(const AVStream* track) {
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 100)
  const AVCodecParameters* parameters = track->codecpar;
  const AVPacketSideData* data =
      av_packet_side_data_get(parameters->coded_side_data, parameters->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
  const uint8_t* bytes = data && data->size >= 9 * sizeof(int32_t) ? data->data : nullptr;
#else
  size_t size = 0;
  const uint8_t* bytes = av_stream_get_side_data(track, AV_PKT_DATA_DISPLAYMATRIX, &size);
  if (size < 9 * sizeof(int32_t)) bytes = nullptr;
#endif
  if (!bytes) return 0;
  int32_t matrix[9];
  std::memcpy(matrix, bytes, sizeof(matrix));
  const double angle = av_display_rotation_get(matrix);
  if (std::isnan(angle)) return 0;
  const int quarter_turns = static_cast<int>(std::lround(angle / 90));
  return ((quarter_turns % 4) + 4) % 4 * 90;
}

}  // namespace

struct VideoReader::Stream {
  fs::path path;
  AvInput input;
  AvPtr<AVCodecContext> decoder;
  RgbConverter rgb;
  AvPtr<AVFrame> frame;
  AvPtr<AVPacket> packet;
  AVStream* track = nullptr;
  VideoInfo info;
  int64_t frames_read = 0;
  bool at_end = false;

  explicit Stream(const fs::path& p) : path(p) {
    check_is_file(path);
    quiet_libav();
    open_input();
    fill_info();
    check_complete();
    if (info.frames == 0) {
      info.frames = count_packets();
      if (info.frames == 0)
        fail_file("cannot read {}: it contains no video frames; check how it was written", path.string());
      if (info.fps > 0 && info.duration == 0) info.duration = static_cast<double>(info.frames) / info.fps;
    }
    open_decoder();
  }

  int checked(int code, const char* doing) const {
    if (code >= 0) return code;  // "Cannot allocate memory" too comes from absurd sizes in damaged files
    fail_file("cannot read {}: {} failed with \"{}\"; the file is damaged or no video that this build can read",
              path.string(), doing, av_text(code));
  }

  void open_input() {
    AVFormatContext* context = av_allocated(avformat_alloc_context());
    AVDictionary* options = nullptr;
    av_dict_set(&options, "protocol_whitelist", "file", 0);
    av_dict_set(&options, "format_whitelist", kContainers, 0);
    const int code = avformat_open_input(&context, file_url(path).c_str(), nullptr, &options);  // frees on failure
    av_dict_free(&options);
    checked(code, "opening it");
    input.reset(context);
    checked(avformat_find_stream_info(context, nullptr), "finding its streams");
    const int index = av_find_best_stream(context, AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
    if (index < 0) fail_file("cannot read {}: it contains no video stream; name a video file", path.string());
    for (unsigned i = 0; i < context->nb_streams; ++i)
      if (static_cast<int>(i) != index) context->streams[i]->discard = AVDISCARD_ALL;
    track = context->streams[index];
  }

  void fill_info() {
    const AVCodecParameters* parameters = track->codecpar;
    check_size(parameters->width, parameters->height);
    info.codec = avcodec_get_name(parameters->codec_id);
    const char* format = av_get_pix_fmt_name(static_cast<AVPixelFormat>(parameters->format));
    info.pixel_format = format ? format : "unknown";
    const char* matrix = av_color_space_name(parameters->color_space);
    info.matrix = matrix ? matrix : "unknown";
    info.rotation = rotation_of(track);
    info.width = parameters->width;
    info.height = parameters->height;
    if (info.rotation % 180) std::swap(info.width, info.height);
    const AVRational rate =
        track->avg_frame_rate.num > 0 && track->avg_frame_rate.den > 0 ? track->avg_frame_rate : track->r_frame_rate;
    if (rate.num > 0 && rate.den > 0) {
      info.fps_numerator = rate.num;
      info.fps_denominator = rate.den;
      info.fps = av_q2d(rate);
    }
    info.frames = std::max<int64_t>(track->nb_frames, 0);
    if (track->duration != AV_NOPTS_VALUE && track->duration > 0)
      info.duration = static_cast<double>(track->duration) * av_q2d(track->time_base);
    else if (input->duration != AV_NOPTS_VALUE && input->duration > 0)
      info.duration = static_cast<double>(input->duration) / AV_TIME_BASE;
    info.container = input->iformat->name;
    const AVDictionaryEntry* tag = nullptr;
    if (info.container.find("mp4") != std::string::npos) info.container = "mp4";
    info.container = info.container.substr(0, info.container.find(','));
    while ((tag = av_dict_get(input->metadata, "", tag, AV_DICT_IGNORE_SUFFIX))) info.tags[tag->key] = tag->value;
  }

  void check_size(int width, int height) const {
    if (width < 1 || height < 1)
      fail_file("cannot read {}: its frames have no size ({}x{}); the file is damaged", path.string(), width, height);
    if (int64_t{width} * height > kMaxPixels)
      fail_file("cannot read {}: its frames of {}x{} are larger than {} megapixels; scale it down first", path.string(),
                width, height, kMaxPixels >> 20);
  }

  // An index in front of a truncated file would otherwise read as a shorter video.
  void check_complete() const {
    const int64_t size = input->pb ? avio_size(input->pb) : -1;
    if (size < 0) return;
    for (int i = avformat_index_get_entries_count(track) - 1; i >= 0; --i) {
      const AVIndexEntry* entry = avformat_index_get_entry(track, i);
      if (entry && entry->pos + entry->size > size)
        fail_file("cannot read {}: it is truncated (its index goes to byte {}, the file ends at {}); copy it again",
                  path.string(), entry->pos + entry->size, size);
    }
  }

  int64_t count_packets() {
    const AvPtr<AVPacket> counted(av_allocated(av_packet_alloc()));
    int64_t count = 0;
    while (av_read_frame(input.get(), counted.get()) >= 0) {
      count += counted->stream_index == track->index;
      av_packet_unref(counted.get());
    }
    // Start over with a fresh demuxer: not every container can seek back.
    track = nullptr;
    input.reset();
    open_input();
    return count;
  }

  void open_decoder() {
    const AVCodec* codec = avcodec_find_decoder(track->codecpar->codec_id);
    if (!codec)
      fail_file("cannot read {}: this build of libavcodec has no decoder for {}; convert it to H.264", path.string(),
                info.codec);
    decoder.reset(av_allocated(avcodec_alloc_context3(codec)));
    checked(avcodec_parameters_to_context(decoder.get(), track->codecpar), "reading its codec parameters");
    decoder->pkt_timebase = track->time_base;
    decoder->thread_count = 0;
    decoder->max_pixels = kMaxPixels;
    checked(avcodec_open2(decoder.get(), codec, nullptr), "opening its decoder");
    frame.reset(av_allocated(av_frame_alloc()));
    packet.reset(av_allocated(av_packet_alloc()));
  }

  // The next decoded frame in `frame`; false at the end.
  bool decode() {
    while (!at_end) {
      const int code = avcodec_receive_frame(decoder.get(), frame.get());
      if (code == AVERROR_EOF) {
        at_end = true;
        if (frames_read == 0)
          fail_file("cannot read {}: none of its {} packets gave a frame; the file is damaged", path.string(),
                    info.frames);
        return false;
      }
      if (code != AVERROR(EAGAIN)) {
        checked(code, "decoding");
        if (frame->decode_error_flags || frame->flags & AV_FRAME_FLAG_CORRUPT)
          fail_file("cannot read {}: frame {} is damaged; copy or write the file again", path.string(), frames_read);
        return true;
      }
      feed();
    }
    return false;
  }

  void feed() {
    for (;;) {
      const int code = av_read_frame(input.get(), packet.get());
      if (code == AVERROR_EOF) {
        checked(avcodec_send_packet(decoder.get(), nullptr), "decoding");
        return;
      }
      checked(code, "reading");
      const bool wanted = packet->stream_index == track->index;
      const bool corrupt = packet->flags & AV_PKT_FLAG_CORRUPT;
      const int sent = wanted && !corrupt ? avcodec_send_packet(decoder.get(), packet.get()) : 0;
      av_packet_unref(packet.get());
      if (wanted && corrupt)
        fail_file("cannot read {}: it is truncated or damaged after frame {}; copy it again", path.string(),
                  frames_read);
      checked(sent, "decoding");
      if (wanted) return;
    }
  }

  void convert(uint8_t* target) {
    const int width = track->codecpar->width, height = track->codecpar->height;
    if (frame->width != width || frame->height != height)
      fail_file("cannot read {}: its frames change from {}x{} to {}x{}; convert it to one size", path.string(), width,
                height, frame->width, frame->height);
    rgb.convert(*frame, target, path);
  }
};

VideoInfo probe(const std::filesystem::path& path) { return VideoReader(path).info(); }

VideoReader::VideoReader(const std::filesystem::path& path) : stream_(std::make_unique<Stream>(path)) {}
VideoReader::~VideoReader() = default;

const VideoInfo& VideoReader::info() const { return stream_->info; }

at::Tensor VideoReader::read(int64_t count) {
  LONGTAKE_CHECK(count >= 0, "expected a number of frames, found {}", count);
  const int64_t height = stream_->track->codecpar->height, width = stream_->track->codecpar->width;
  int64_t missing = count;
  std::vector<at::Tensor> parts;
  while (missing > 0) {
    // Small parts, so that a wrong count in the file costs no memory.
    const int64_t size = std::min(missing, kChunkFrames);
    at::Tensor part = at::empty({size, height, width, 3}, at::kByte);
    int64_t filled = 0;
    while (filled < size && stream_->decode()) {
      stream_->convert(part.data_ptr<uint8_t>() + filled * height * width * 3);
      ++stream_->frames_read;
      ++filled;
    }
    parts.push_back(part.narrow(0, 0, filled));
    missing -= filled;
    if (filled < size) break;
  }
  at::Tensor all = parts.empty() ? at::empty({0, height, width, 3}, at::kByte) : at::cat(parts);
  return stream_->info.rotation ? at::rot90(all, stream_->info.rotation / 90, {1, 2}).contiguous() : all;
}

at::Tensor read_video(const std::filesystem::path& path) {
  VideoReader reader(path);
  const int64_t frame_bytes = int64_t{reader.info().width} * reader.info().height * 3;
  const int64_t limit = kMaxBytes / frame_bytes;
  if (reader.info().frames > limit)
    fail(ExitCode::no_memory, "cannot read {} whole: {} frames of {}x{} exceed 16 GiB; cut or scale it down first",
         path.string(), reader.info().frames, reader.info().width, reader.info().height);
  at::Tensor frames = reader.read(limit);
  if (reader.read(1).size(0) > 0)
    fail(ExitCode::no_memory, "cannot read {} whole: its frames exceed 16 GiB; cut or scale it down first",
         path.string());
  return frames;
}

}  // namespace longtake
