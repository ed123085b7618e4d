// Videos written, probed and read back.
#include "base/error.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/av.h"
#include "video_io/metrics.h"
#include "video_io/reader.h"
#include "video_io/writer.h"

#include <ATen/ops/full.h>
#include <nlohmann/json.hpp>

#include <signal.h>
#include <sys/resource.h>

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

void write_video(const std::filesystem::path& path, const at::Tensor& frames, int fps = 24, int crf = 18,
                 const Tags& tags = {}) {
  VideoWriter writer(
      {path, static_cast<int>(frames.size(2)), static_cast<int>(frames.size(1)), fps, crf, "veryfast", tags});
  writer.push(frames);
  writer.finish();
}

// The first frame's mean luma and chroma as coded, and its tags: past swscale, which would undo its own mistakes.
struct CodedFrame {
  double y, u, v;
  AVColorSpace matrix;
  AVColorPrimaries primaries;
  AVColorTransferCharacteristic transfer;
  AVColorRange range;
};

CodedFrame first_coded_frame(const std::filesystem::path& path) {
  AVFormatContext* context = nullptr;
  REQUIRE(avformat_open_input(&context, file_url(path).c_str(), nullptr, nullptr) == 0);
  const AvInput input(context);
  REQUIRE(avformat_find_stream_info(context, nullptr) >= 0);
  const AVCodecParameters* parameters = context->streams[0]->codecpar;
  const AVCodec* codec = avcodec_find_decoder(parameters->codec_id);
  const AvPtr<AVCodecContext> decoder(avcodec_alloc_context3(codec));
  REQUIRE(avcodec_parameters_to_context(decoder.get(), parameters) >= 0);
  REQUIRE(avcodec_open2(decoder.get(), codec, nullptr) == 0);
  const AvPtr<AVPacket> packet(av_packet_alloc());
  const AvPtr<AVFrame> frame(av_frame_alloc());
  while (av_read_frame(context, packet.get()) == 0) {
    avcodec_send_packet(decoder.get(), packet.get());
    av_packet_unref(packet.get());
  }
  avcodec_send_packet(decoder.get(), nullptr);
  REQUIRE(avcodec_receive_frame(decoder.get(), frame.get()) == 0);
  REQUIRE(frame->format == AV_PIX_FMT_YUV420P);
  const auto mean = [&](int plane, int width, int height) {
    double sum = 0;
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) sum += frame->data[plane][y * frame->linesize[plane] + x];
    return sum / width / height;
  };
  const int width = frame->width, height = frame->height;
  return {mean(0, width, height), mean(1, width / 2, height / 2), mean(2, width / 2, height / 2),
          frame->colorspace,      frame->color_primaries,         frame->color_trc,
          frame->color_range};
}

}  // namespace

TEST_CASE("a video comes back as it was written") {
  const TemporaryFolder folder;
  const at::Tensor frames = smooth_clip(33, 96, 160);
  const auto path = folder / "clip: 100 %.mp4";  // a colon is no protocol, a percent sign no pattern
  write_video(path, frames, 24, 12);

  const VideoInfo info = probe(path);
  CHECK(info.codec == "h264");
  CHECK(info.pixel_format == "yuv420p");
  CHECK(info.container == "mp4");
  CHECK(info.matrix == "bt709");
  CHECK(info.width == 160);
  CHECK(info.height == 96);
  CHECK(info.frames == 33);
  CHECK(info.fps_numerator == 24);
  CHECK(info.fps_denominator == 1);
  CHECK(std::abs(info.duration - 33 / 24.0) < 1e-6);

  const at::Tensor back = read_video(path);
  REQUIRE(back.sizes() == frames.sizes());
  const FrameQuality quality = compare_frames(frames, back);
  WARN("round trip at crf 12: " << quality.mean_psnr << " dB");
  CHECK(*std::min_element(quality.psnr.begin(), quality.psnr.end()) > 35);
  CHECK(quality.mean_ssim > 0.95);

  SECTION("in pieces") {
    VideoReader reader(path);
    CHECK(reader.read(0).size(0) == 0);
    CHECK(reader.read(10).equal(back.narrow(0, 0, 10)));
    CHECK(reader.read(100).equal(back.narrow(0, 10, 23)));
    CHECK(reader.read(5).size(0) == 0);
  }
}

TEST_CASE("every integer frame rate is exact") {
  const TemporaryFolder folder;
  const int fps = GENERATE(1, 7, 24, 25, 30, 60, 1000);
  const auto path = folder / "clip.mp4";
  write_video(path, smooth_clip(9, 32, 48), fps);
  AVFormatContext* context = nullptr;
  REQUIRE(avformat_open_input(&context, file_url(path).c_str(), nullptr, nullptr) == 0);
  const AvInput input(context);
  REQUIRE(avformat_find_stream_info(context, nullptr) >= 0);
  const AVStream* track = context->streams[0];
  INFO(fps);
  CHECK(track->avg_frame_rate.num == fps);
  CHECK(track->avg_frame_rate.den == 1);
  CHECK(track->r_frame_rate.num == fps);
  CHECK(track->r_frame_rate.den == 1);
  CHECK(track->start_time == 0);
  // Presentation times, which B-frames store out of order, are exactly 0 / fps, 1 / fps, ...
  std::vector<int64_t> times;
  const AvPtr<AVPacket> packet(av_packet_alloc());
  while (av_read_frame(context, packet.get()) == 0) {
    times.push_back(av_rescale_q_rnd(packet->pts, track->time_base, {1, fps * 1000}, AV_ROUND_UP));
    av_packet_unref(packet.get());
  }
  std::sort(times.begin(), times.end());
  REQUIRE(times.size() == 9);
  for (int64_t i = 0; i < 9; ++i) CHECK(times[i] == i * 1000);
}

TEST_CASE("colours are coded by BT.709 in tv range, and tagged so") {
  const TemporaryFolder folder;
  const auto path = folder / "red.mp4";
  at::Tensor red = at::zeros({3, 32, 32, 3}, at::kByte);
  red.select(3, 0).fill_(255);
  write_video(path, red, 24, 4);
  const CodedFrame frame = first_coded_frame(path);
  // ITU-R BT.709: Y = 16 + 219 * 0.2126, Cb = 128 - 224 * 0.2126 / 1.8556, Cr = 128 + 112. BT.601 would give Y = 81.5.
  CHECK(std::abs(frame.y - 62.6) < 1.5);
  CHECK(std::abs(frame.u - 102.3) < 1.5);
  CHECK(std::abs(frame.v - 240.0) < 1.5);
  CHECK(frame.matrix == AVCOL_SPC_BT709);
  CHECK(frame.primaries == AVCOL_PRI_BT709);
  CHECK(frame.transfer == AVCOL_TRC_BT709);
  CHECK(frame.range == AVCOL_RANGE_MPEG);
  const at::Tensor back = read_video(path);
  CHECK((back.to(at::kInt) - red.to(at::kInt)).abs().max().item<int>() <= 4);
}

TEST_CASE("the index stands in front of the pictures") {
  const TemporaryFolder folder;
  const auto path = folder / "clip.mp4";
  write_video(path, smooth_clip(5, 32, 48));
  const std::string bytes = read_bytes(path);
  const size_t moov = bytes.find("moov"), mdat = bytes.find("mdat");
  REQUIRE(moov != std::string::npos);
  REQUIRE(mdat != std::string::npos);
  CHECK(moov < mdat);
}

TEST_CASE("the record survives the file") {
  const TemporaryFolder folder;
  const auto path = folder / "clip.mp4";
  std::string prompt =
      GENERATE(as<std::string>{}, "a red circle", "\"quotes\", back\\slashes,\nnew lines; =#; 'and' more",
               "日本語 émoji 🎬 Ωmega", "long");
  if (prompt == "long")
    for (prompt.clear(); prompt.size() < 10000;) prompt += "ein längerer Satz, ";
  const nlohmann::json record = {{"prompt", prompt},
                                 {"seed", 18446744073709551615u},
                                 {"settings", {{"steps", 50}, {"cache", "motioncache:slow"}}},
                                 {"version", "0.1.0"}};
  write_video(path, smooth_clip(2, 32, 32), 24, 18, record_tags(record));
  const VideoInfo info = probe(path);
  const auto back = tags_record(info.tags);
  REQUIRE(back.has_value());
  CHECK(*back == record);
  CHECK(info.tags.at("description") == prompt);
  CHECK(info.tags.at("title").size() <= 100);
}

TEST_CASE("a full disk leaves nothing behind") {
  const TemporaryFolder folder;
  const auto path = folder / "clip.mp4";
  write_bytes(path, "what was there before");
  // Noise that does not compress; a limit on the size of files is the full disk that a test may cause.
  at::Tensor noise = at::zeros({8, 128, 128, 3}, at::kByte);
  uint32_t state = 1;
  for (int64_t i = 0; i < noise.numel(); ++i)
    noise.data_ptr<uint8_t>()[i] = (state = state * 1664525 + 1013904223) >> 24;
  struct Limit {
    rlimit before;
    void (*handler)(int);
    explicit Limit(rlim_t bytes) : handler(signal(SIGXFSZ, SIG_IGN)) {
      getrlimit(RLIMIT_FSIZE, &before);
      const rlimit now{bytes, before.rlim_max};
      setrlimit(RLIMIT_FSIZE, &now);
    }
    ~Limit() {
      setrlimit(RLIMIT_FSIZE, &before);
      signal(SIGXFSZ, handler);
    }
  };
  const rlim_t bytes = GENERATE(0, 10000, 100000);
  std::string message;
  ExitCode code = ExitCode::ok;
  {
    const Limit limit(bytes);
    try {
      write_video(path, noise, 24, 1);
    } catch (const Error& error) {
      message = error.what();
      code = error.code();
    }
  }
  INFO(bytes);
  CHECK(code == ExitCode::bad_file);
  CHECK_THAT(message, ContainsSubstring("cannot write " + path.string() + ": File too large"));
  CHECK(folder.names() == std::vector<std::string>{"clip.mp4"});
  CHECK(read_bytes(path) == "what was there before");
}

TEST_CASE("a video appears only when it is finished") {
  const TemporaryFolder folder;
  const auto path = folder / "clip.mp4";
  const at::Tensor frames = smooth_clip(3, 32, 48);
  SECTION("left without finishing") {
    {
      VideoWriter writer({path, 48, 32});
      writer.push(frames);
      CHECK(!std::filesystem::exists(path));
      REQUIRE(folder.names().size() == 1);
      CHECK_THAT(folder.names()[0], ContainsSubstring("clip.mp4.part-"));
    }
    CHECK(folder.names().empty());
  }
  SECTION("finished, over an older one") {
    write_bytes(path, "old");
    VideoWriter writer({path, 48, 32});
    writer.push(frames);
    CHECK(read_bytes(path) == "old");
    writer.finish();
    CHECK(writer.frames() == 3);
    CHECK(folder.names() == std::vector<std::string>{"clip.mp4"});
    CHECK(probe(path).frames == 3);
    CHECK_THROWS_AS(writer.push(frames), Error);
    CHECK_THROWS_AS(writer.finish(), Error);
  }
  SECTION("without frames") {
    VideoWriter writer({path, 48, 32});
    CHECK_THROWS_AS(writer.finish(), Error);
    CHECK(folder.names().empty());
  }
}

TEST_CASE("wrong options are usage errors before anything is written") {
  const TemporaryFolder folder;
  const auto path = folder / "clip.mp4";
  const auto message = [&](VideoWriterOptions options) -> std::string {
    options.path = path;
    try {
      check_video_options(options);
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::usage);
      return error.what();
    }
    return "";
  };
  CHECK_THAT(message({{}, 47, 32}), ContainsSubstring("even sides; choose 46x32"));
  CHECK_THAT(message({{}, 48, 31}), ContainsSubstring("even sides; choose 48x30"));
  CHECK_THAT(message({{}, 0, 32}), ContainsSubstring("sides must be 2 .. 16384"));
  CHECK_THAT(message({{}, 48, 32, 0}), ContainsSubstring("frame rate 0 is out of range"));
  CHECK_THAT(message({{}, 48, 32, 24, 52}), ContainsSubstring("crf 52 is out of range"));
  CHECK_THAT(message({{}, 48, 32, 24, 18, "fastest"}),
             ContainsSubstring("unknown preset \"fastest\"; choose one of ultrafast"));
  CHECK(message({{}, 48, 32}).empty());
  CHECK(folder.names().empty());
  VideoWriter writer({path, 48, 32});
  CHECK_THROWS_WITH(writer.push(smooth_clip(1, 48, 32)), ContainsSubstring("expected frames of 48x32, found 32x48"));
}
