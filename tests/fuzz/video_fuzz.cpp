// Input: a video file. Anything but frames of the size that it says or an Error is a bug. Ours is instrumented, FFmpeg's libraries are
// not. A few frames of a moderate size, so that an input takes milliseconds.
#include "video_io/reader.h"

#include "base/error.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longtake;
  constexpr int64_t kPixels = 1 << 16;
  try {
    VideoReader reader(fuzz::memory_file({data, size}));
    const VideoInfo& info = reader.info();
    tags_record(info.tags);
    if (int64_t{info.width} * info.height > kPixels) return 0;
    for (int part = 0; part < 3; ++part) {
      const at::Tensor frames = reader.read(2);
      if (frames.size(0) == 0) break;
      if (frames.dim() != 4 || frames.size(1) != info.height || frames.size(2) != info.width || frames.size(3) != 3) std::abort();
    }
  } catch (const Error& error) {
    if (error.code() != ExitCode::bad_file) std::abort();
  }
  return 0;
}
