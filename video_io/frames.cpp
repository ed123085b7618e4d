#include "video_io/frames.h"

#include "base/error.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/all.h>
#include <ATen/ops/isfinite.h>

namespace longtake {

at::Tensor to_frames(const at::Tensor& video) {
  LONGTAKE_CHECK(video.dim() == 4 && video.size(0) == 3 && video.is_floating_point(),
                 "expected a floating point video [3, T, H, W]");
  if (!at::isfinite(video).all().item<bool>())
    fail(ExitCode::numerical, "the decoded video holds NaN or infinity; try --dtype fp32 and report the command");
  // In float32 whatever the dtype of the decoder: bfloat16 has too few bits for 256 levels.
  return ((video.to(at::kFloat) / 2 + 0.5).clamp(0, 1) * 255).to(at::kByte).permute({1, 2, 3, 0}).contiguous();
}

at::Tensor from_frames(const at::Tensor& frames) {
  check_frames(frames, "frames");
  return (frames.to(at::kFloat) / 127.5 - 1).permute({3, 0, 1, 2}).contiguous();
}

void check_frames(const at::Tensor& frames, const char* what) {
  LONGTAKE_CHECK(frames.defined() && frames.scalar_type() == at::kByte && frames.dim() == 4 && frames.size(3) == 3,
                 "expected {} as uint8 [T, H, W, 3]", what);
}

}  // namespace longtake
