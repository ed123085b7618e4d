#include "video_io/writer.h"

#include "base/error.h"
#include "video_io/av.h"
#include "video_io/frames.h"
#include "base/pending_file.h"

extern "C" {
#include <libavutil/dict.h>
#include <libavutil/opt.h>
}

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace longtake {
namespace {

constexpr std::string_view kPresets[] = {"ultrafast", "superfast", "veryfast", "faster",   "fast",
                                         "medium",    "slow",      "slower",   "veryslow", "placebo"};
constexpr std::string_view kTags[] = {"title", "comment", "description"};
constexpr int kMaxSide = 16384;

void check_options(const VideoWriterOptions& o) {
  if (o.width < 2 || o.height < 2 || o.width > kMaxSide || o.height > kMaxSide)
    fail_usage("a video of {}x{} cannot be written: sides must be 2 .. {} pixels; choose another size", o.width,
               o.height, kMaxSide);
  if (o.width % 2 || o.height % 2)
    fail_usage("a video of {}x{} cannot be written: H.264 with yuv420p needs even sides; choose {}x{}", o.width,
               o.height, o.width / 2 * 2, o.height / 2 * 2);
  if (o.fps < 1 || o.fps > 1000) fail_usage("frame rate {} is out of range; choose 1 .. 1000 frames per second", o.fps);
  if (o.crf < 0 || o.crf > 51) fail_usage("crf {} is out of range; choose 0 (lossless) .. 51 (worst)", o.crf);
  if (std::find(std::begin(kPresets), std::end(kPresets), o.preset) == std::end(kPresets))
    fail_usage("unknown preset \"{}\"; choose one of {}", o.preset, fmt::join(kPresets, ", "));
  for (const auto& [key, value] : o.tags) {
    LONGTAKE_CHECK(std::find(std::begin(kTags), std::end(kTags), key) != std::end(kTags),
                   "mp4 tag \"{}\" is not one of {}", key, fmt::join(kTags, ", "));
    LONGTAKE_CHECK(value.find('\0') == std::string::npos, "mp4 tag \"{}\" holds a NUL character", key);
  }
}

AvPtr<AVFrame> new_frame(AVPixelFormat format, int width, int height) {
  AvPtr<AVFrame> frame(av_allocated(av_frame_alloc()));
  frame->format = format;
  frame->width = width;
  frame->height = height;
  if (av_frame_get_buffer(frame.get(), 0) < 0) fail_av_memory();
  return frame;
}

}  // namespace

struct VideoWriter::Stream {
  VideoWriterOptions options;
  PendingFile file;  // outlives `output`, which holds the temporary file open
  AvOutput output;
  AvPtr<AVCodecContext> encoder;
  AvPtr<SwsContext> scaler;
  AvPtr<AVFrame> rgb, yuv;
  AvPtr<AVPacket> packet;
  AVStream* track = nullptr;

  explicit Stream(const VideoWriterOptions& o) : options(o), file(o.path) {
    quiet_libav();
    open_encoder();
    open_output();
    open_scaler();
    packet.reset(av_allocated(av_packet_alloc()));
  }

  // Libav's errors while writing are negated errno values or its own codes.
  int checked(int code) const {
    if (code >= 0) return code;
    if (code == AVERROR(ENOMEM)) fail_av_memory();
    const int error_number = AVUNERROR(code);
    if (error_number > 0 && error_number < 4096)
      throw Error(ExitCode::bad_file, write_error(options.path, error_number));
    fail_file("cannot write {}: {}; try another --preset or --crf, or another output path", options.path.string(),
              av_text(code));
  }

  void open_encoder() {
    const AVCodec* codec = avcodec_find_encoder_by_name("libx264");
    if (!codec)
      fail_file(
          "cannot write {}: this build of libavcodec ({}.{}) has no libx264 encoder; install FFmpeg's libavcodec with "
          "libx264 (Debian: libavcodec-extra or libavcodec59)",
          options.path.string(), avcodec_version() >> 16, avcodec_version() >> 8 & 0xff);
    encoder.reset(av_allocated(avcodec_alloc_context3(codec)));
    encoder->width = options.width;
    encoder->height = options.height;
    encoder->pix_fmt = AV_PIX_FMT_YUV420P;
    encoder->time_base = {1, options.fps};
    encoder->framerate = {options.fps, 1};
    encoder->gop_size = std::min(2 * options.fps, 250);
    encoder->color_range = AVCOL_RANGE_MPEG;
    encoder->color_primaries = AVCOL_PRI_BT709;
    encoder->color_trc = AVCOL_TRC_BT709;
    encoder->colorspace = AVCOL_SPC_BT709;
    encoder->chroma_sample_location = AVCHROMA_LOC_LEFT;
    encoder->sample_aspect_ratio = {1, 1};
    encoder->thread_count = 0;                      // as many as there are cores
    encoder->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;  // mp4 keeps the parameter sets in its header
    checked(av_opt_set(encoder->priv_data, "preset", options.preset.c_str(), 0));
    checked(av_opt_set_double(encoder->priv_data, "crf", options.crf, 0));
    checked(avcodec_open2(encoder.get(), codec, nullptr));
  }

  void open_output() {
    const std::string url = file_url(file.temporary());
    AVFormatContext* context = nullptr;
    checked(avformat_alloc_output_context2(&context, nullptr, "mp4", url.c_str()));
    output.reset(context);
    track = av_allocated(avformat_new_stream(context, nullptr));
    checked(avcodec_parameters_from_context(track->codecpar, encoder.get()));
    track->time_base = encoder->time_base;
    track->avg_frame_rate = track->r_frame_rate = encoder->framerate;
    track->sample_aspect_ratio = {1, 1};
    for (const auto& [key, value] : options.tags)
      checked(av_dict_set(&context->metadata, key.c_str(), value.c_str(), 0));
    checked(avio_open(&context->pb, url.c_str(), AVIO_FLAG_WRITE));
    AVDictionary* muxer_options = nullptr;
    av_dict_set(&muxer_options, "movflags", "+faststart", 0);
    const int code = avformat_write_header(context, &muxer_options);
    av_dict_free(&muxer_options);
    checked(code);
  }

  void open_scaler() {
    rgb = new_frame(AV_PIX_FMT_RGB24, options.width, options.height);
    yuv = new_frame(AV_PIX_FMT_YUV420P, options.width, options.height);
    yuv->color_range = AVCOL_RANGE_MPEG;
    yuv->color_primaries = AVCOL_PRI_BT709;
    yuv->color_trc = AVCOL_TRC_BT709;
    yuv->colorspace = AVCOL_SPC_BT709;
    yuv->chroma_location = AVCHROMA_LOC_LEFT;
    // Accurate rounding also keeps swscale away from its fast path, which knows only BT.601.
    const int flags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP;
    scaler.reset(av_allocated(sws_getContext(options.width, options.height, AV_PIX_FMT_RGB24, options.width,
                                             options.height, AV_PIX_FMT_YUV420P, flags, nullptr, nullptr, nullptr)));
    const int* bt709 = sws_getCoefficients(SWS_CS_ITU709);
    const int code =
        sws_setColorspaceDetails(scaler.get(), bt709, /*srcRange=*/1, bt709, /*dstRange=*/0, 0, 1 << 16, 1 << 16);
    LONGTAKE_CHECK(code >= 0, "swscale cannot convert RGB to BT.709");
  }

  void encode(const uint8_t* bytes, int64_t index) {
    const size_t row = static_cast<size_t>(options.width) * 3;
    // swscale reads beyond the end of a row, so it gets a padded copy.
    for (int y = 0; y < options.height; ++y)
      std::memcpy(rgb->data[0] + y * static_cast<ptrdiff_t>(rgb->linesize[0]), bytes + y * row, row);
    checked(av_frame_make_writable(yuv.get()));
    checked(sws_scale(scaler.get(), rgb->data, rgb->linesize, 0, options.height, yuv->data, yuv->linesize));
    yuv->pts = index;
    checked(avcodec_send_frame(encoder.get(), yuv.get()));
    drain();
  }

  void drain() {
    for (;;) {
      const int code = avcodec_receive_packet(encoder.get(), packet.get());
      if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return;
      checked(code);
      packet->duration = 1;
      packet->stream_index = track->index;
      av_packet_rescale_ts(packet.get(), encoder->time_base, track->time_base);
      checked(av_interleaved_write_frame(output.get(), packet.get()));
      checked(output->pb->error);  // the muxer does not report every failed write
    }
  }

  void close() {
    checked(avcodec_send_frame(encoder.get(), nullptr));
    drain();
    checked(av_write_trailer(output.get()));
    checked(output->pb->error);
    checked(avio_closep(&output->pb));
    file.commit();
  }
};

void check_video_options(const VideoWriterOptions& options) { VideoWriter probe(options); }

VideoWriter::VideoWriter(const VideoWriterOptions& options) {
  check_options(options);
  stream_ = std::make_unique<Stream>(options);
}

VideoWriter::~VideoWriter() = default;

void VideoWriter::push(std::span<const uint8_t> frame) {
  LONGTAKE_CHECK(stream_, "the video is finished or has failed");
  const VideoWriterOptions& o = stream_->options;
  const size_t expected = static_cast<size_t>(o.width) * o.height * 3;
  LONGTAKE_CHECK(frame.size() == expected, "expected a frame of {}x{} RGB ({} bytes), found {} bytes", o.width,
                 o.height, expected, frame.size());
  try {
    stream_->encode(frame.data(), frames_);
  } catch (...) {
    stream_.reset();
    throw;
  }
  ++frames_;
}

void VideoWriter::push(const at::Tensor& frames) {
  LONGTAKE_CHECK(stream_, "the video is finished or has failed");
  check_frames(frames, "frames");
  const int width = stream_->options.width, height = stream_->options.height;
  LONGTAKE_CHECK(frames.size(1) == height && frames.size(2) == width, "expected frames of {}x{}, found {}x{}", width,
                 height, frames.size(2), frames.size(1));
  const size_t bytes = static_cast<size_t>(width) * height * 3;
  for (int64_t t = 0; t < frames.size(0); ++t) {
    const at::Tensor frame = frames[t].cpu().contiguous();
    push({frame.const_data_ptr<uint8_t>(), bytes});
  }
}

void VideoWriter::finish() {
  LONGTAKE_CHECK(stream_, "the video is finished or has failed");
  const auto stream = std::move(stream_);  // gone whatever happens
  LONGTAKE_CHECK(frames_ > 0, "{} has no frames", stream->options.path.string());
  stream->close();
}

}  // namespace longtake
