#include "attention/rope.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/polar.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/view_as_complex.h>
#include <ATen/ops/view_as_real.h>

#include "base/error.h"

namespace longtake {
namespace {

// Angles of one axis: [positions, width/2] in float64.
at::Tensor axis_angles(int64_t positions, int64_t width, double theta) {
  const auto f64 = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor frequency = at::pow(theta, at::arange(0, width, 2, f64) * (-1.0 / static_cast<double>(width)));
  return at::outer(at::arange(positions, f64), frequency);
}

}  // namespace

at::Tensor rope_3d(int64_t frames, int64_t height, int64_t width, int64_t head_width, const at::Device& device,
                   double theta) {
  LONGTAKE_CHECK(head_width % 2 == 0 && head_width >= 6, "expected an even head width of 6 or more, found {}", head_width);
  const int64_t spatial = 2 * (head_width / 6), temporal = head_width - 2 * spatial;
  const at::Tensor t = axis_angles(frames, temporal, theta).view({frames, 1, 1, temporal / 2});
  const at::Tensor y = axis_angles(height, spatial, theta).view({1, height, 1, spatial / 2});
  const at::Tensor x = axis_angles(width, spatial, theta).view({1, 1, width, spatial / 2});
  const at::Tensor angles = at::cat({t.expand({frames, height, width, temporal / 2}),
                                     y.expand({frames, height, width, spatial / 2}),
                                     x.expand({frames, height, width, spatial / 2})},
                                    -1)
                                .reshape({frames * height * width, head_width / 2});
  return at::polar(at::ones_like(angles), angles).to(at::kComplexFloat).to(device);
}

at::Tensor apply_rope(const at::Tensor& x, const at::Tensor& rotations) {
  LONGTAKE_CHECK(x.dim() == 3 && rotations.dim() == 2 && x.size(0) == rotations.size(0) &&
                     x.size(2) == 2 * rotations.size(1),
                 "expected x [n, heads, w] and rotations [n, w/2], found {} x {} x {} and {} x {}", x.size(0), x.size(1),
                 x.size(2), rotations.size(0), rotations.size(1));
  const at::Tensor pairs = x.to(at::kFloat).reshape({x.size(0), x.size(1), x.size(2) / 2, 2});
  return at::view_as_real(at::view_as_complex(pairs) * rotations.unsqueeze(1)).flatten(2);
}

at::Tensor apply_rope_halves(const at::Tensor& x, const at::Tensor& table) {
  LONGTAKE_CHECK(x.dim() == 3 && table.dim() == 2 && x.size(0) == table.size(0) && table.size(1) % 2 == 0 &&
                     x.size(2) >= table.size(1),
                 "expected x [n, heads, w] and a table [n, 2r] with 2r <= w, found {} x {} x {} and {} x {}", x.size(0), x.size(1),
                 x.size(2), table.size(0), table.size(1));
  const int64_t r = table.size(1) / 2;
  const at::Tensor f = x.to(at::kFloat);
  const at::Tensor a = f.narrow(2, 0, r), b = f.narrow(2, r, r), rest = f.narrow(2, 2 * r, f.size(2) - 2 * r);
  const at::Tensor sin = table.narrow(1, 0, r).unsqueeze(1), cos = table.narrow(1, r, r).unsqueeze(1);
  return at::cat({a * cos - b * sin, b * cos + a * sin, rest}, 2);
}

}  // namespace longtake
