// What is no readable video gives one sentence, never a crash.
#include "base/error.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/reader.h"
#include "video_io/writer.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

// The message of the bad_file error, or "" where the file could be read.
std::string reading_error(const std::filesystem::path& path, bool may_claim_too_much = false) {
  try {
    read_video(path);
  } catch (const Error& error) {
    if (!may_claim_too_much || error.code() != ExitCode::no_memory) CHECK(error.code() == ExitCode::bad_file);
    return error.what();
  }
  return "";
}

std::string sample_video(const TemporaryFolder& folder) {
  const auto path = folder / "sample.mp4";
  VideoWriter writer({path, 64, 48});
  writer.push(smooth_clip(40, 48, 64));
  writer.finish();
  return read_bytes(path);
}

void put_u16(std::string& bytes, size_t at, int value) {
  bytes[at] = static_cast<char>(value >> 8);
  bytes[at + 1] = static_cast<char>(value);
}

}  // namespace

TEST_CASE("files that are no videos are refused") {
  const TemporaryFolder folder;
  const auto path = folder / "input.mp4";
  CHECK_THAT(reading_error(path), ContainsSubstring("no such file"));
  CHECK_THAT(reading_error(folder.path()), ContainsSubstring("it is a folder"));
  CHECK_THAT(reading_error("/dev/null"), ContainsSubstring("not a regular file"));
  write_bytes(path, "");
  CHECK_THAT(reading_error(path), ContainsSubstring("cannot read " + path.string()));
  write_bytes(path, "this is no video, whatever its name says\n");
  CHECK_THAT(reading_error(path), ContainsSubstring("cannot read " + path.string()));
  // Lists of files could make the program read other files, or the network.
  sample_video(folder);
  write_bytes(path, "ffconcat version 1.0\nfile sample.mp4\n");
  CHECK_THAT(reading_error(path), ContainsSubstring("cannot read"));
  write_bytes(path, "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsample.mp4\n#EXT-X-ENDLIST\n");
  CHECK_THAT(reading_error(path), ContainsSubstring("cannot read"));
}

TEST_CASE("truncated videos are refused, wherever they end") {
  const TemporaryFolder folder;
  const std::string bytes = sample_video(folder);
  const auto path = folder / "input.mp4";
  for (size_t length = 0; length < bytes.size(); length += 1 + bytes.size() / 60) {
    write_bytes(path, bytes.substr(0, length));
    INFO(length << " of " << bytes.size());
    CHECK_THAT(reading_error(path), ContainsSubstring("cannot read"));
  }
  write_bytes(path, bytes.substr(0, bytes.size() - 1));
  CHECK_THAT(reading_error(path), ContainsSubstring("it is truncated"));
  write_bytes(path, bytes);
  CHECK(reading_error(path).empty());
}

TEST_CASE("damaged videos never crash the reader") {
  const TemporaryFolder folder;
  const std::string bytes = sample_video(folder);
  const auto path = folder / "input.mp4";
  uint32_t state = 7;
  const auto random = [&] { return (state = state * 1664525 + 1013904223) >> 8; };
  int refused = 0;
  constexpr int kTrials = 150;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::string damaged = bytes;
    for (int i = 0; i < 4; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
    write_bytes(path, damaged);
    refused += !reading_error(path, true).empty();  // the number of frames may be hit
  }
  WARN("four random bytes changed: " << refused << " of " << kTrials << " refused, the others read");
  CHECK(refused > 0);
}

TEST_CASE("frames of absurd size are refused") {
  const TemporaryFolder folder;
  std::string bytes = sample_video(folder);
  const auto path = folder / "input.mp4";
  // The sample description: 4 bytes type, 24 of other fields, then width and height.
  const size_t avc1 = bytes.find("avc1", bytes.find("stsd"));
  REQUIRE(avc1 != std::string::npos);
  put_u16(bytes, avc1 + 28, 65535);
  put_u16(bytes, avc1 + 30, 65535);
  // Without the decoder's own header nothing contradicts the size.
  const size_t config = bytes.find("avcC");
  REQUIRE(config != std::string::npos);
  bytes.replace(config, 4, "free");
  const size_t pictures = bytes.find("mdat") + 4;
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(pictures), bytes.end(), '\0');
  write_bytes(path, bytes);
  CHECK_THAT(reading_error(path), ContainsSubstring("larger than 64 megapixels") || ContainsSubstring("failed with"));
}

TEST_CASE("a video without frames is refused") {
  const TemporaryFolder folder;
  // An mp4 with a file type and an empty movie.
  const std::string empty_movie(
      "\0\0\0\x18"
      "ftypisom\0\0\0\0isommp42"
      "\0\0\0\x08"
      "moov",
      32);
  const auto path = folder / "input.mp4";
  write_bytes(path, empty_movie);
  CHECK_THAT(reading_error(path), ContainsSubstring("cannot read"));
}
