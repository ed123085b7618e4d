#include "video_io/png.h"

#include <cerrno>
#include <fstream>

#include "base/error.h"
#include "video_io/av.h"
#include "video_io/pending_file.h"

namespace longtake {
namespace {

constexpr int64_t kMaxSide = 16384;

int checked(int code) {
  if (code == AVERROR(ENOMEM)) fail_av_memory();
  LONGTAKE_CHECK(code >= 0, "expected a picture that libavcodec encodes as PNG, found: {}", av_text(code));
  return code;
}

}  // namespace

std::vector<uint8_t> encode_png(const at::Tensor& rgb) {
  LONGTAKE_CHECK(rgb.dim() == 3 && rgb.size(2) == 3 && rgb.scalar_type() == at::kByte, "expected uint8 [H, W, 3], found {} {}",
                 c10::toString(rgb.scalar_type()), fmt::join(rgb.sizes(), " x "));
  LONGTAKE_CHECK(rgb.size(0) >= 1 && rgb.size(1) >= 1 && rgb.size(0) <= kMaxSide && rgb.size(1) <= kMaxSide,
                 "expected sides of 1 ... {} pixels, found {} x {}", kMaxSide, rgb.size(0), rgb.size(1));
  quiet_libav();
  const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
  if (!codec) fail_file("this build of libavcodec ({}) has no PNG encoder; install FFmpeg built with zlib", avcodec_version() >> 16);
  const at::Tensor pixels = rgb.cpu().contiguous();
  const int height = static_cast<int>(pixels.size(0)), width = static_cast<int>(pixels.size(1));

  AvPtr<AVCodecContext> encoder(av_allocated(avcodec_alloc_context3(codec)));
  encoder->width = width;
  encoder->height = height;
  encoder->pix_fmt = AV_PIX_FMT_RGB24;
  encoder->time_base = {1, 1};
  encoder->thread_count = 1;
  checked(avcodec_open2(encoder.get(), codec, nullptr));

  AvPtr<AVFrame> frame(av_allocated(av_frame_alloc()));
  frame->format = AV_PIX_FMT_RGB24;
  frame->width = width;
  frame->height = height;
  if (av_frame_get_buffer(frame.get(), 0) < 0) fail_av_memory();
  for (int y = 0; y < height; ++y)
    std::memcpy(frame->data[0] + static_cast<ptrdiff_t>(y) * frame->linesize[0],
                pixels.const_data_ptr<uint8_t>() + static_cast<ptrdiff_t>(y) * width * 3, static_cast<size_t>(width) * 3);

  AvPtr<AVPacket> packet(av_allocated(av_packet_alloc()));
  checked(avcodec_send_frame(encoder.get(), frame.get()));
  checked(avcodec_send_frame(encoder.get(), nullptr));
  checked(avcodec_receive_packet(encoder.get(), packet.get()));
  return {packet->data, packet->data + packet->size};
}

void write_png(const std::filesystem::path& path, const at::Tensor& rgb) {
  const std::vector<uint8_t> bytes = encode_png(rgb);
  PendingFile file(path);
  std::ofstream out(file.temporary(), std::ios::binary);
  errno = 0;
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out) throw Error(ExitCode::bad_file, write_error(path, errno != 0 ? errno : EIO));
  file.commit();
}

}  // namespace longtake
