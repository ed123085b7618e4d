// Input: a video file. Anything but a few frames of the size that it says or an Error is a bug. Ours is instrumented, FFmpeg's libraries
// are not.
#include "video_io/reader.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "tests/fuzz/memory_file.h"

extern "C" {
#include <libavutil/cpu.h>
#include <libavutil/mem.h>
}

// An input takes milliseconds: libavcodec starts no threads, and frames that are decoded to find out about the streams stay small too.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  av_cpu_force_count(1);
  av_max_alloc(size_t{4} << 20);
  return 0;
}

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
    if (error.code() != ExitCode::bad_file && error.code() != ExitCode::no_memory) std::abort();
  }
  return 0;
}
