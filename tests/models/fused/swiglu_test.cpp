// The activation of a gated MLP against float64 on every device and dtype.
#include "models/ops/swiglu.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>

#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"

using namespace longtake;

TEST_CASE("swiglu multiplies silu of the first half by the second") {
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf})
      for (const auto& [rows, width] : std::vector<std::pair<int64_t, int64_t>>{{1, 8}, {5, 48}, {7, 2048}, {33, 2056}, {3, 16384}, {6, 20}, {0, 64}, {4, 3}}) {
        INFO(rows << " x " << width << " " << c10::toString(dtype) << " on " << device.str());
        // Up to where the exponential overflows.
        const at::Tensor x = at::randn({rows, 2 * width}, at::TensorOptions().dtype(dtype).device(device)) * 40;
        const at::Tensor wide = x.to(at::kDouble), got = swiglu(x);
        CHECK(got.scalar_type() == dtype);
        CHECK(got.sizes() == at::IntArrayRef({rows, width}));
        CHECK(test::relative_error(got, at::silu(wide.narrow(1, 0, width)) * wide.narrow(1, width, width)) < test::rounding(dtype));
        if (rows > 0 && dtype != at::kFloat) CHECK(got.ne(reference::swiglu(x)).to(at::kDouble).mean().item<double>() < 1e-3);
      }
}

TEST_CASE("swiglu has gradients, and refuses rows without halves") {
  for (const auto& device : test_devices()) {
    at::Tensor x = at::randn({3, 16}, device).requires_grad_(true);
    swiglu(x).sum().backward();
    CHECK(x.grad().isfinite().all().item<bool>());
    CHECK_THROWS_WITH(swiglu(at::randn({3, 15}, device)), Catch::Matchers::ContainsSubstring("rows [n, 2 * width]"));
  }
}
