#include "models/magi/rope.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/sin.h>

#include <cmath>

#include "base/error.h"

namespace longtake::magi {
namespace {

// Positions of an axis of `size` patches: centred, spanning size / r - 1.
at::Tensor centred(int64_t size, double r, const at::TensorOptions& options) {
  const double middle = static_cast<double>(size - 1) / 2;
  const at::Tensor positions = at::arange(size, options) - middle;
  if (size == 1) return positions;
  return positions / static_cast<double>(size - 1) * (static_cast<double>(size) / r - 1);
}

}  // namespace

at::Tensor rope_table(const at::Tensor& bands, int64_t first_frame, int64_t frames, int64_t height, int64_t width) {
  LONGTAKE_CHECK(bands.dim() == 1 && bands.scalar_type() == at::kFloat,
                 "expected float32 bands [b], found {} dimensions", bands.dim());
  LONGTAKE_CHECK(first_frame >= 0 && frames > 0 && height > 0 && width > 0,
                 "expected a grid that is not empty, found {} x {} x {}", frames, height, width);
  const int64_t b = bands.size(0);
  const double r = std::sqrt(static_cast<double>(height * width) / 256);
  const auto f32 = bands.options();
  const at::Tensor t = at::outer(at::arange(first_frame, first_frame + frames, f32), bands).view({frames, 1, 1, b});
  const at::Tensor y = at::outer(centred(height, r, f32), bands).view({1, height, 1, b});
  const at::Tensor x = at::outer(centred(width, r, f32), bands).view({1, 1, width, b});
  const std::vector<int64_t> grid{frames, height, width, b};
  const at::Tensor angles = at::cat({t.expand(grid), y.expand(grid), x.expand(grid)}, -1).reshape({-1, 3 * b});
  return at::cat({at::sin(angles), at::cos(angles)}, 1);
}

}  // namespace longtake::magi
