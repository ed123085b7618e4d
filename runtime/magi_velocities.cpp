#include "runtime/magi_velocities.h"

#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "models/ops/patches.h"

namespace longtake::magi {

at::Tensor KeptVelocities::complete(int chunk, const Decision& decision, const at::Tensor& computed,
                                    const at::Tensor& latents, double level, at::Tensor* moved) {
  const TokenSet& set = decision.tokens;
  LONGTAKE_CHECK(set.is_none() || computed.defined(), "expected the velocity of what chunk {} computed", chunk);
  if (kept_ == 0) {
    LONGTAKE_CHECK(set.is_all(), "expected all tokens of chunk {} from a policy that keeps nothing", chunk);
    return computed;
  }
  const int64_t frames = latents.size(1), height = latents.size(2), width = latents.size(3);
  const int64_t plane = height / 2 * (width / 2);
  at::Tensor rows;
  if (!set.is_none()) rows = patch_rows(computed);
  if (rows.defined() && !set.is_all()) rows = rows.index_select(0, set.indices(frames, plane, rows.device()));
  // A residual over an input of zero is the value itself.
  const at::Tensor zero = at::zeros({frames * plane, latents.size(0) * 4}, latents.options());
  const at::Tensor merged = residuals_.merge(chunk, 0, zero, decision, rows, frames, plane, level, moved);
  return from_patch_rows(merged, frames, height, width);
}

}  // namespace longtake::magi
