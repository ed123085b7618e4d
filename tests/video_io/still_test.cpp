// Pictures from files, good and hostile.
#include "video_io/still.h"

#include <ATen/ops/equal.h>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/video_io/phone_files.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/png.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string png_of(int height, int width) {
  const auto bytes = encode_png(smooth_clip(1, height, width)[0]);
  return {bytes.begin(), bytes.end()};
}

void check_refused(const std::filesystem::path& path, const std::string& what) {
  try {
    read_still(path);
    FAIL("read " << path);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::bad_file);
    CHECK_THAT(error.what(), ContainsSubstring(what) && ContainsSubstring(path.string()));
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
  }
}

}  // namespace

TEST_CASE("a PNG is read to the bit, whatever its name says") {
  const TemporaryFolder folder;
  for (const std::string name : {"a.png", "a.jpg", "a", "frame%03d.png", "a:b.png"}) {
    write_bytes(folder / name, png_of(40, 56));
    CHECK(at::equal(read_still(folder / name), smooth_clip(1, 40, 56)[0]));
  }
}

TEST_CASE("a JPEG is turned and mirrored as its Exif orientation says") {
  const TemporaryFolder folder;
  const std::string jpeg = jpeg_of(smooth_clip(1, 40, 56)[0]);
  write_bytes(folder / "plain.jpg", jpeg);
  const at::Tensor stored = read_still(folder / "plain.jpg");
  REQUIRE(stored.sizes() == at::IntArrayRef({40, 56, 3}));
  for (int orientation = 0; orientation <= 9; ++orientation)  // 0 and 9 mean nothing
    for (const bool big_endian : {false, true}) {
      INFO("orientation " << orientation << (big_endian ? ", big-endian" : ", little-endian"));
      write_bytes(folder / "phone.jpg", with_orientation(jpeg, orientation, big_endian));
      CHECK(at::equal(read_still(folder / "phone.jpg"), as_oriented(stored, orientation)));
    }
}

TEST_CASE("what is no picture is refused in a sentence") {
  const TemporaryFolder folder;
  check_refused(folder / "none.png", "no such file");
  check_refused(folder.path(), "no regular file");
  const auto refused = [&](const std::string& bytes, const std::string& what) {
    write_bytes(folder / "x.png", bytes);
    check_refused(folder / "x.png", what);
  };
  const std::string png = png_of(64, 64);
  refused("", "empty");
  refused("hello\n", "no picture");
  refused(std::string(100000, 'a'), "no picture");
  refused("#EXTM3U\n/etc/passwd\n", "no picture");
  refused(png_of(1, 1), "1x1");
  refused(png_of(64, 8), "at least 16");
  refused(std::string("\xff\xd8\xff\xe0\x00\x10JFIF\x00", 11), "cannot read");
  std::string wrong = png;
  wrong[png.size() / 2] = static_cast<char>(wrong[png.size() / 2] ^ 0x55);
  refused(wrong, "damaged");
  std::string huge = png;  // 2^30 pixels wide
  huge[16] = 0x40;
  refused(huge, "megapixels");
}

TEST_CASE("a picture that is cut anywhere is refused") {
  const TemporaryFolder folder;
  const std::string png = png_of(48, 48);
  for (size_t size = 1; size + 12 < png.size(); size += 1 + png.size() / 40) {
    write_bytes(folder / "x.png", png.substr(0, size));
    INFO(size << " of " << png.size() << " bytes");
    CHECK_THROWS_AS(read_still(folder / "x.png"), Error);
  }
}
