#include "video_io/encoder.h"

#include <cstring>

#include "base/error.h"

extern "C" {
#include <libavutil/opt.h>
}

namespace longtake {
namespace {

AvPtr<AVFrame> new_frame(AVPixelFormat format, int width, int height) {
  AvPtr<AVFrame> frame(av_allocated(av_frame_alloc()));
  frame->format = format;
  frame->width = width;
  frame->height = height;
  if (av_frame_get_buffer(frame.get(), 0) < 0) fail_av_memory();
  // swscale and x264 look at the padding too: without this the same frames may come out in other bits.
  for (const AVBufferRef* buffer : frame->buf)
    if (buffer) std::memset(buffer->data, 0, buffer->size);
  return frame;
}

}  // namespace

H264Encoder::H264Encoder(const VideoWriterOptions& options, OnPacket on_packet)
    : options_(options), on_packet_(std::move(on_packet)), packet_(av_allocated(av_packet_alloc())) {
  check_values(options_);
  quiet_libav();
  open();
  open_scaler();
}

void H264Encoder::open() {
  const AVCodec* codec = avcodec_find_encoder_by_name("libx264");
  if (!codec)
    fail_file(
        "cannot write {}: this build of libavcodec ({}.{}) has no libx264 encoder; install FFmpeg's libavcodec with "
        "libx264 (Debian: libavcodec-extra or libavcodec59)",
        options_.path.string(), avcodec_version() >> 16, avcodec_version() >> 8 & 0xff);
  encoder_.reset(av_allocated(avcodec_alloc_context3(codec)));
  encoder_->width = options_.width;
  encoder_->height = options_.height;
  encoder_->pix_fmt = AV_PIX_FMT_YUV420P;
  encoder_->time_base = {1, options_.fps};
  encoder_->framerate = {options_.fps, 1};
  encoder_->gop_size = std::min(2 * options_.fps, 250);
  encoder_->color_range = AVCOL_RANGE_MPEG;
  encoder_->color_primaries = AVCOL_PRI_BT709;
  encoder_->color_trc = AVCOL_TRC_BT709;
  encoder_->colorspace = AVCOL_SPC_BT709;
  encoder_->chroma_sample_location = AVCHROMA_LOC_LEFT;
  encoder_->sample_aspect_ratio = {1, 1};
  encoder_->thread_count = 0;                      // as many as there are cores
  encoder_->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;  // mp4 keeps the parameter sets in its header
  check_write(av_opt_set(encoder_->priv_data, "preset", options_.preset.c_str(), 0), options_.path);
  check_write(av_opt_set_double(encoder_->priv_data, "crf", options_.crf, 0), options_.path);
  check_write(avcodec_open2(encoder_.get(), codec, nullptr), options_.path);
}

void H264Encoder::open_scaler() {
  rgb_ = new_frame(AV_PIX_FMT_RGB24, options_.width, options_.height);
  yuv_ = new_frame(AV_PIX_FMT_YUV420P, options_.width, options_.height);
  yuv_->color_range = AVCOL_RANGE_MPEG;
  yuv_->color_primaries = AVCOL_PRI_BT709;
  yuv_->color_trc = AVCOL_TRC_BT709;
  yuv_->colorspace = AVCOL_SPC_BT709;
  yuv_->chroma_location = AVCHROMA_LOC_LEFT;
  // Accurate rounding also keeps swscale away from its fast path, which knows only BT.601.
  const int flags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP;
  scaler_.reset(av_allocated(sws_getContext(options_.width, options_.height, AV_PIX_FMT_RGB24, options_.width,
                                           options_.height, AV_PIX_FMT_YUV420P, flags, nullptr, nullptr, nullptr)));
  const int* bt709 = sws_getCoefficients(SWS_CS_ITU709);
  const int code =
      sws_setColorspaceDetails(scaler_.get(), bt709, /*srcRange=*/1, bt709, /*dstRange=*/0, 0, 1 << 16, 1 << 16);
  LONGTAKE_CHECK(code >= 0, "swscale cannot convert RGB to BT.709");
}

void H264Encoder::push(const uint8_t* rgb, int64_t index) {
  if (drained_) open();  // libx264 cannot be restarted in place in every release of libavcodec
  drained_ = false;
  const size_t row = static_cast<size_t>(options_.width) * 3;
  // swscale reads beyond the end of a row, so it gets a padded copy.
  for (int y = 0; y < options_.height; ++y)
    std::memcpy(rgb_->data[0] + y * static_cast<ptrdiff_t>(rgb_->linesize[0]), rgb + y * row, row);
  check_write(av_frame_make_writable(yuv_.get()), options_.path);
  check_write(sws_scale(scaler_.get(), rgb_->data, rgb_->linesize, 0, options_.height, yuv_->data, yuv_->linesize), options_.path);
  yuv_->pts = index;
  check_write(avcodec_send_frame(encoder_.get(), yuv_.get()), options_.path);
  receive();
}

void H264Encoder::drain() {
  if (drained_) return;
  check_write(avcodec_send_frame(encoder_.get(), nullptr), options_.path);
  receive();
  drained_ = true;
}

void H264Encoder::receive() {
  for (;;) {
    const int code = avcodec_receive_packet(encoder_.get(), packet_.get());
    if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return;
    check_write(code, options_.path);
    packet_->duration = 1;
    on_packet_(*packet_);
  }
}

}  // namespace longtake
