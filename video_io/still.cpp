#include "video_io/still.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/flip.h>

#include <cstring>
#include <fstream>

#include "base/error.h"
#include "video_io/rgb_converter.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxPixels = int64_t{1} << 26;
constexpr uintmax_t kMaxBytes = uintmax_t{256} << 20;
constexpr int kMinSide = 16;
constexpr int kProbeBytes = 4096;

[[noreturn]] void refuse(const fs::path& path, const std::string& reason) { fail_file("cannot read {}: {}", path.string(), reason); }

AvPtr<AVPacket> read_whole(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) refuse(path, "no such file; check the path");
  if (!fs::is_regular_file(status)) refuse(path, "it is no regular file; name a picture");
  const uintmax_t size = fs::file_size(path, error);
  if (error || size == 0) refuse(path, error ? error.message() : "it is empty; name a picture");
  if (size > kMaxBytes) refuse(path, fmt::format("{} MiB are too much for a picture; at most {} are read", size >> 20, kMaxBytes >> 20));
  AvPtr<AVPacket> packet(av_allocated(av_packet_alloc()));
  if (av_new_packet(packet.get(), static_cast<int>(size)) < 0) fail_av_memory();
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(packet->data), static_cast<std::streamsize>(size)))
    refuse(path, "reading it failed; check its permissions");
  return packet;
}

// By the first bytes: among libavformat's demuxers those for one picture are called "png_pipe" and so on.
AVCodecID codec_of(const fs::path& path, const AVPacket& packet) {
  std::vector<uint8_t> start(kProbeBytes + AVPROBE_PADDING_SIZE, 0);
  const int size = std::min(packet.size, kProbeBytes);
  std::memcpy(start.data(), packet.data, static_cast<size_t>(size));
  AVProbeData probe{};
  probe.filename = "";
  probe.buf = start.data();
  probe.buf_size = size;
  const AVInputFormat* format = av_probe_input_format(&probe, /*is_opened=*/1);
  const std::string name = format ? format->name : "";
  if (!name.ends_with("_pipe")) refuse(path, "it is no picture that this build of FFmpeg knows; name a PNG or a JPEG");
  AVFormatContext* context = av_allocated(avformat_alloc_context());
  AVDictionary* options = nullptr;
  av_dict_set(&options, "protocol_whitelist", "file", 0);
  const int code = avformat_open_input(&context, file_url(path).c_str(), format, &options);  // frees on failure
  av_dict_free(&options);
  if (code < 0) refuse(path, fmt::format("opening it failed with \"{}\"; name a PNG or a JPEG", av_text(code)));
  const AvInput input(context);
  return input->nb_streams > 0 ? input->streams[0]->codecpar->codec_id : AV_CODEC_ID_NONE;
}

// JPEG's decoder fills what is missing with grey and says nothing.
bool is_cut_jpeg(AVCodecID codec, const AVPacket& packet) {
  if (codec != AV_CODEC_ID_MJPEG) return false;
  for (int i = packet.size - 1; i > 0; --i)
    if (packet.data[i - 1] == 0xff && packet.data[i] == 0xd9) return false;
  return true;
}

AvPtr<AVFrame> decode(const fs::path& path, const AVPacket& packet) {
  const AVCodecID id = codec_of(path, packet);
  const AVCodec* codec = avcodec_find_decoder(id);
  if (!codec) refuse(path, fmt::format("this build of FFmpeg has no decoder for {}; convert it to PNG", avcodec_get_name(id)));
  if (is_cut_jpeg(id, packet)) refuse(path, "it is truncated (a JPEG without an end); copy it again");
  const AvPtr<AVCodecContext> decoder(av_allocated(avcodec_alloc_context3(codec)));
  decoder->max_pixels = kMaxPixels;
  decoder->thread_count = 1;
  decoder->err_recognition = AV_EF_CRCCHECK | AV_EF_EXPLODE;
  AvPtr<AVFrame> frame(av_allocated(av_frame_alloc()));
  int code = avcodec_open2(decoder.get(), codec, nullptr);
  if (code >= 0) code = avcodec_send_packet(decoder.get(), &packet);
  if (code >= 0) code = avcodec_send_packet(decoder.get(), nullptr);
  if (code >= 0) code = avcodec_receive_frame(decoder.get(), frame.get());
  if (code < 0)
    refuse(path, fmt::format("decoding failed with \"{}\"; it is truncated, damaged or larger than {} megapixels", av_text(code),
                             kMaxPixels >> 20));
  if (frame->decode_error_flags || frame->flags & AV_FRAME_FLAG_CORRUPT) refuse(path, "it is damaged; copy it again");
  if (int64_t{frame->width} * frame->height > kMaxPixels)
    refuse(path, fmt::format("{}x{} pixels are more than {} megapixels; scale it down first", frame->width, frame->height, kMaxPixels >> 20));
  if (frame->width < kMinSide || frame->height < kMinSide)
    refuse(path, fmt::format("a picture of {}x{} pixels shows nothing; both sides need at least {}", frame->width, frame->height, kMinSide));
  return frame;
}

// Turns and mirrors as the display matrix says; other angles than multiples of 90 degrees are ignored.
at::Tensor turned(const at::Tensor& picture, const AVFrame& frame) {
  const AVFrameSideData* data = av_frame_get_side_data(&frame, AV_FRAME_DATA_DISPLAYMATRIX);
  if (!data || static_cast<size_t>(data->size) < 9 * sizeof(int32_t)) return picture;
  int32_t m[9];
  std::memcpy(m, data->data, sizeof(m));
  const bool upright = m[1] == 0 && m[3] == 0 && m[0] != 0 && m[4] != 0, sideways = m[0] == 0 && m[4] == 0 && m[1] != 0 && m[3] != 0;
  if (!upright && !sideways) return picture;
  // x' = m0 x + m3 y, y' = m1 x + m4 y
  at::Tensor out = sideways ? picture.transpose(0, 1) : picture;
  if ((upright ? m[0] : m[3]) < 0) out = at::flip(out, {1});
  if ((upright ? m[4] : m[1]) < 0) out = at::flip(out, {0});
  return out.contiguous();
}

}  // namespace

at::Tensor read_still(const fs::path& path) {
  quiet_libav();
  const AvPtr<AVPacket> packet = read_whole(path);
  const AvPtr<AVFrame> frame = decode(path, *packet);
  at::Tensor picture = at::empty({frame->height, frame->width, 3}, at::kByte);
  RgbConverter().convert(*frame, picture.data_ptr<uint8_t>(), path);
  return turned(picture, *frame);
}

}  // namespace longtake
