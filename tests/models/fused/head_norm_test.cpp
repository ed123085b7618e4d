// Norms of heads and their rotation, against float64 on every device and dtype.
#include "models/ops/head_norm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sin.h>

#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"

using namespace longtake;

namespace {

// (rows, heads, width, half); MAGI-1's are 24 or 48 and 8 heads of 128 with a half of 48. Halves of 6 and 9 and the width of 264 are
// none of the kernel's.
struct Shape {
  int64_t rows, heads, width, half;
};
const std::vector<Shape> kShapes{{1, 1, 8, 0},    {5, 3, 16, 8},   {7, 24, 128, 48}, {130, 8, 128, 48}, {3, 48, 128, 64}, {9, 5, 24, 9},
                                 {6, 4, 64, 24},  {2, 7, 96, 48},  {5, 2, 256, 96},  {3, 2, 256, 128},  {4, 2, 264, 8},   {11, 9, 72, 8},
                                 {3, 33, 8, 0},   {2, 2, 16, 6},   {4, 2, 20, 8},    {5, 17, 40, 16},   {0, 4, 128, 48}};

struct Case {
  at::Tensor x, gain, bias, rotations;
  Case(const Shape& s, const at::TensorOptions& options) {
    const auto floats = options.dtype(at::kFloat);
    x = at::randn({s.rows, s.heads, s.width}, options) * 3 + 1;
    gain = at::randn({s.width}, floats) + 1;
    bias = at::randn({s.width}, floats);
    const at::Tensor angles = at::randn({s.rows, s.half}, floats) * 10;
    rotations = at::cat({at::sin(angles), at::cos(angles)}, 1);
  }
};

at::Tensor norm64(const Case& c, const at::Tensor& x) {
  return at::layer_norm(x.to(at::kDouble), {x.size(2)}, c.gain.to(at::kDouble), c.bias.to(at::kDouble), 1e-6);
}

at::Tensor turned64(const Case& c, const at::Tensor& x) {
  const int64_t half = c.rotations.size(1) / 2;
  const at::Tensor v = norm64(c, x), a = v.narrow(2, 0, half), b = v.narrow(2, half, half);
  const at::Tensor sine = c.rotations.to(at::kDouble).narrow(1, 0, half).unsqueeze(1), cosine = c.rotations.to(at::kDouble).narrow(1, half, half).unsqueeze(1);
  return at::cat({a * cosine - b * sine, a * sine + b * cosine, v.narrow(2, 2 * half, v.size(2) - 2 * half)}, 2);
}

}  // namespace

TEST_CASE("norm_heads normalises every head and turns its halves") {
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf})
      for (const Shape& s : kShapes) {
        INFO(s.rows << " x " << s.heads << " x " << s.width << ", half " << s.half << ", " << c10::toString(dtype) << " on " << device.str());
        const Case c(s, at::TensorOptions().dtype(dtype).device(device));
        const at::Tensor plain = norm_heads(c.x, c.gain, c.bias, 1e-6), turned = norm_heads(c.x, c.gain, c.bias, 1e-6, c.rotations);
        CHECK(plain.scalar_type() == dtype);
        CHECK(turned.is_contiguous());
        CHECK(test::relative_error(plain, norm64(c, c.x)) < test::rounding(dtype));
        CHECK(test::relative_error(turned, turned64(c, c.x)) < test::rounding(dtype));
      }
}

TEST_CASE("norm_heads takes heads that lie apart, as keys beside their values do") {
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kBFloat16})
      for (const int64_t first : {0, 128, 4}) {  // 4 is off the kernel's alignment in bfloat16
        const Case c({7, 8, 128, 48}, at::TensorOptions().dtype(dtype).device(device));
        const at::Tensor pair = at::randn({7, 8, 256 + 4}, c.x.options()), x = pair.narrow(2, first, 128);
        const at::Tensor even = at::randn({7, 8, 256}, c.x.options()).narrow(2, first == 4 ? 0 : first, 128);
        for (const at::Tensor& heads : {x, even}) {
          CHECK(test::relative_error(norm_heads(heads, c.gain, c.bias, 1e-6), norm64(c, heads)) < test::rounding(dtype));
          CHECK(at::equal(norm_heads(even, c.gain, c.bias, 1e-6, c.rotations), norm_heads(even.contiguous(), c.gain, c.bias, 1e-6, c.rotations)));
        }
      }
}

TEST_CASE("norm_heads rounds where plain ATen does") {
  for (const auto& device : test_devices()) {
    const Case c({300, 24, 128, 48}, at::TensorOptions().dtype(at::kBFloat16).device(device));
    for (const at::Tensor& rotations : {at::Tensor(), c.rotations}) {
      const at::Tensor got = norm_heads(c.x, c.gain, c.bias, 1e-6, rotations), want = reference::norm_heads(c.x, c.gain, c.bias, 1e-6, rotations);
      CHECK(got.ne(want).to(at::kDouble).mean().item<double>() < 2e-3);
    }
  }
}

TEST_CASE("a head's norm does not depend on what is beside it") {
  for (const auto& device : test_devices()) {
    const Case c({50, 24, 128, 48}, at::TensorOptions().dtype(at::kBFloat16).device(device));
    const at::Tensor all = norm_heads(c.x, c.gain, c.bias, 1e-6, c.rotations);
    const at::Tensor part = norm_heads(c.x.narrow(0, 13, 9).narrow(1, 6, 5), c.gain, c.bias, 1e-6, c.rotations.narrow(0, 13, 9));
    CHECK(at::equal(part, all.narrow(0, 13, 9).narrow(1, 6, 5)));
  }
}

TEST_CASE("norm_heads has gradients, and refuses what does not fit") {
  for (const auto& device : test_devices()) {
    const Case c({3, 2, 64, 24}, at::TensorOptions().dtype(at::kFloat).device(device));
    at::Tensor x = c.x.clone().requires_grad_(true);
    norm_heads(x, c.gain, c.bias, 1e-6, c.rotations).pow(2).sum().backward();
    CHECK(x.grad().isfinite().all().item<bool>());
    CHECK_THROWS_WITH(norm_heads(c.x, c.gain, c.bias.narrow(0, 0, 8), 1e-6), Catch::Matchers::ContainsSubstring("gain and bias [64] float32"));
    CHECK_THROWS_WITH(norm_heads(c.x, c.gain, c.bias, 1e-6, c.rotations.narrow(0, 0, 2)), Catch::Matchers::ContainsSubstring("rotations [3, 2 * half]"));
    CHECK_THROWS_WITH(norm_heads(c.x.flatten(1), c.gain, c.bias, 1e-6), Catch::Matchers::ContainsSubstring("heads [rows, heads, width]"));
  }
}
