#include "video_io/png.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/av.h"

using namespace longtake;

namespace {

// uint8 [H, W, 3], read by libavcodec's own decoder.
at::Tensor decode_png(const std::string& bytes) {
  AvPtr<AVCodecContext> decoder(avcodec_alloc_context3(avcodec_find_decoder(AV_CODEC_ID_PNG)));
  REQUIRE(avcodec_open2(decoder.get(), nullptr, nullptr) == 0);
  AvPtr<AVPacket> packet(av_packet_alloc());
  REQUIRE(av_new_packet(packet.get(), static_cast<int>(bytes.size())) == 0);
  std::memcpy(packet->data, bytes.data(), bytes.size());
  REQUIRE(avcodec_send_packet(decoder.get(), packet.get()) == 0);
  REQUIRE(avcodec_send_packet(decoder.get(), nullptr) == 0);
  AvPtr<AVFrame> frame(av_frame_alloc());
  REQUIRE(avcodec_receive_frame(decoder.get(), frame.get()) == 0);
  REQUIRE(frame->format == AV_PIX_FMT_RGB24);
  const at::Tensor rgb = at::empty({frame->height, frame->width, 3}, at::kByte);
  for (int y = 0; y < frame->height; ++y)
    std::memcpy(rgb.data_ptr<uint8_t>() + static_cast<ptrdiff_t>(y) * frame->width * 3,
                frame->data[0] + static_cast<ptrdiff_t>(y) * frame->linesize[0], static_cast<size_t>(frame->width) * 3);
  return rgb;
}

}  // namespace

TEST_CASE("a picture comes back from a PNG file as it was, whatever its size and strides") {
  const TemporaryFolder folder;
  for (const auto& [height, width] : std::vector<std::pair<int, int>>{{1, 1}, {7, 33}, {64, 48}, {3, 500}}) {
    const at::Tensor picture = smooth_clip(1, height, width)[0];
    write_png(folder / "x.png", picture);
    CHECK(at::equal(decode_png(read_bytes(folder / "x.png")), picture));
    const at::Tensor turned = picture.transpose(0, 1);
    write_png(folder / "x.png", turned);
    CHECK(at::equal(decode_png(read_bytes(folder / "x.png")), turned));
  }
  CHECK(folder.names() == std::vector<std::string>{"x.png"});
}

TEST_CASE("what is no picture, or no place for one, is refused") {
  CHECK_THROWS_WITH(encode_png(at::zeros({4, 4, 4}, at::kByte)), Catch::Matchers::ContainsSubstring("[H, W, 3]"));
  CHECK_THROWS_WITH(encode_png(at::zeros({4, 4, 3})), Catch::Matchers::ContainsSubstring("Float"));
  CHECK_THROWS_WITH(encode_png(at::zeros({0, 4, 3}, at::kByte)), Catch::Matchers::ContainsSubstring("16384"));
  const TemporaryFolder folder;
  const auto nowhere = folder / "no/such/x.png";
  CHECK_THROWS_WITH(write_png(nowhere, at::zeros({4, 4, 3}, at::kByte)), Catch::Matchers::ContainsSubstring("no/such"));
}
