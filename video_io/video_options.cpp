#include "video_io/video_options.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"

namespace longtake {
namespace {

constexpr std::string_view kPresets[] = {"ultrafast", "superfast", "veryfast", "faster",   "fast",
                                         "medium",    "slow",      "slower",   "veryslow", "placebo"};
constexpr std::string_view kTags[] = {"title", "comment", "description"};
constexpr int kMaxSide = 16384;

}  // namespace

void check_values(const VideoWriterOptions& o) {
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

}  // namespace longtake
