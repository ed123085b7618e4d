// Input: a file for --image. Anything but a picture of the size that it says or an Error is a bug. Ours is instrumented, FFmpeg's
// libraries are not.
#include "video_io/still.h"

#include "base/error.h"
#include "tests/fuzz/memory_file.h"

extern "C" {
#include <libavutil/mem.h>
}

// An input takes milliseconds: a few bytes may say that they are 64 megapixels, which are decoded and converted otherwise.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  av_max_alloc(size_t{2} << 20);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longtake;
  try {
    const at::Tensor picture = read_still(fuzz::memory_file({data, size}));
    if (picture.dim() != 3 || picture.size(0) < 16 || picture.size(1) < 16 || picture.size(2) != 3 || !picture.is_contiguous()) std::abort();
  } catch (const Error& error) {
    if (error.code() != ExitCode::bad_file && error.code() != ExitCode::no_memory) std::abort();
  }
  return 0;
}
