#include "models/ops/patches.h"

#include "base/error.h"

namespace longtake {

at::Tensor patch_rows(const at::Tensor& x) {
  LONGTAKE_CHECK(x.dim() == 4 && x.size(2) % 2 == 0 && x.size(3) % 2 == 0,
                 "expected latents [C, F, h, w] of even height and width");
  const int64_t C = x.size(0), F = x.size(1), gh = x.size(2) / 2, gw = x.size(3) / 2;
  return x.reshape({C, F, gh, 2, gw, 2}).permute({1, 2, 4, 0, 3, 5}).reshape({F * gh * gw, C * 4});
}

at::Tensor from_patch_rows(const at::Tensor& rows, int64_t frames, int64_t height, int64_t width) {
  const int64_t gh = height / 2, gw = width / 2;
  LONGTAKE_CHECK(rows.dim() == 2 && rows.size(0) == frames * gh * gw && rows.size(1) % 4 == 0,
                 "expected {} rows of whole patches", frames * gh * gw);
  const int64_t C = rows.size(1) / 4;
  return rows.reshape({frames, gh, gw, C, 2, 2}).permute({3, 0, 1, 4, 2, 5}).reshape({C, frames, height, width});
}

}  // namespace longtake
