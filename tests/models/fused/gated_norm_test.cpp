// Norms of whole rows, alone and of a gated product added to the residual stream, against float64 on every device and dtype.
#include "models/ops/gated_norm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include <numeric>

#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"

using namespace longtake;

namespace {

// MAGI-1's widths are 3072 and 6144; 20 and 20488 are none of the kernel's.
const std::vector<std::pair<int64_t, int64_t>> kShapes{{1, 8},   {5, 48},  {3, 264},  {130, 1536}, {7, 3072}, {9, 6144},
                                                       {6, 20},  {2, 520}, {33, 256}, {4, 20480},  {3, 20488}, {11, 1544}};

struct Case {
  at::Tensor x, y, gates, gain, bias;
  std::vector<int64_t> rows;

  Case(int64_t n, int64_t D, const at::TensorOptions& options, std::vector<int64_t> runs) : rows(std::move(runs)) {
    const auto floats = options.dtype(at::kFloat);
    x = at::randn({n, D}, options) * 2;
    y = at::randn({n, D}, options) * 3 + 1;
    // One half of wider rows, as a layer's two gates are.
    gates = at::randn({static_cast<int64_t>(rows.size()), 2 * D}, floats).narrow(1, D, D);
    gain = at::randn({D}, floats) + 1;
    bias = at::randn({D}, floats);
  }

  at::Tensor norm64(const at::Tensor& of) const {
    return at::layer_norm(of.to(at::kDouble), {of.size(1)}, gain.to(at::kDouble), bias.to(at::kDouble), 1e-6);
  }
  at::Tensor gate64() const {
    return gates.to(at::kDouble).repeat_interleave(at::tensor(rows, at::TensorOptions().dtype(at::kLong)).to(gates.device()), 0);
  }
};

// Runs that are equal, that are not, and one that is empty.
std::vector<std::vector<int64_t>> runs_of(int64_t n) {
  std::vector<std::vector<int64_t>> out{{n}};
  if (n % 3 == 0) out.push_back({n / 3, n / 3, n / 3});
  if (n > 2) out.push_back({1, 0, n - 2, 1});
  return out;
}

}  // namespace

TEST_CASE("norm_rows normalises each row") {
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf})
      for (const auto& [n, D] : kShapes) {
        INFO(n << " x " << D << " " << c10::toString(dtype) << " on " << device.str());
        const Case c(n, D, at::TensorOptions().dtype(dtype).device(device), {n});
        const at::Tensor got = norm_rows(c.y, c.gain, c.bias, 1e-6);
        CHECK(got.scalar_type() == dtype);
        CHECK(test::relative_error(got, c.norm64(c.y)) < test::rounding(dtype));
      }
}

TEST_CASE("add_gated_norm adds the norm of a gated product to the residual stream") {
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf})
      for (const auto& [n, D] : kShapes)
        for (const std::vector<int64_t>& runs : runs_of(n)) {
          INFO(n << " x " << D << " in " << runs.size() << " runs, " << c10::toString(dtype) << " on " << device.str());
          const Case c(n, D, at::TensorOptions().dtype(dtype).device(device), runs);
          for (const at::Tensor& y : {c.y, c.y.to(at::kFloat) * 1.0001}) {
            const at::Tensor want = c.x.to(at::kDouble) + c.norm64(y.to(at::kDouble) * c.gate64());
            const at::Tensor got = add_gated_norm(c.x, y, c.gates, runs, c.gain, c.bias, 1e-6);
            CHECK(got.scalar_type() == dtype);
            CHECK(test::relative_error(got, want) < test::rounding(dtype));
          }
        }
}

TEST_CASE("the norms of rows round where plain ATen does") {
  // Where sums are in another order, a value in thousands falls to the other side of a rounding; a gate or a sum that were rounded
  // elsewhere, or not at all, would move many more.
  for (const auto& device : test_devices()) {
    const Case c(200, 3072, at::TensorOptions().dtype(at::kBFloat16).device(device), {50, 150});
    const at::Tensor y = c.y.to(at::kFloat) * 1.0001;
    const auto differ = [](const at::Tensor& a, const at::Tensor& b) { return a.ne(b).to(at::kDouble).mean().item<double>(); };
    CHECK(differ(norm_rows(c.y, c.gain, c.bias, 1e-6), reference::norm_rows(c.y, c.gain, c.bias, 1e-6)) < 2e-3);
    CHECK(differ(add_gated_norm(c.x, y, c.gates, c.rows, c.gain, c.bias, 1e-6),
                 reference::add_gated_norm(c.x, y, c.gates, c.rows, c.gain, c.bias, 1e-6)) < 2e-3);
  }
}

TEST_CASE("more runs of gates than the kernel holds, and none at all") {
  for (const auto& device : test_devices()) {
    const auto options = at::TensorOptions().dtype(at::kBFloat16).device(device);
    for (const int64_t runs : {64, 65}) {
      const Case c(2 * runs, 64, options, std::vector<int64_t>(static_cast<size_t>(runs), 2));
      const at::Tensor want = c.x.to(at::kDouble) + c.norm64(c.y.to(at::kDouble) * c.gate64());
      CHECK(test::relative_error(add_gated_norm(c.x, c.y, c.gates, c.rows, c.gain, c.bias, 1e-6), want) < test::rounding(at::kBFloat16));
    }
    CHECK(norm_rows(at::randn({0, 64}, options), at::randn({64}, options.dtype(at::kFloat)), at::randn({64}, options.dtype(at::kFloat)), 1e-6)
              .sizes() == at::IntArrayRef({0, 64}));
  }
}

TEST_CASE("a row's norm does not depend on the rows beside it, nor on where it starts in memory") {
  for (const auto& device : test_devices()) {
    const Case c(50, 1536, at::TensorOptions().dtype(at::kBFloat16).device(device), {20, 30});
    const at::Tensor all = add_gated_norm(c.x, c.y, c.gates, c.rows, c.gain, c.bias, 1e-6);
    const auto part = [](const at::Tensor& x) { return x.narrow(0, 15, 12); };
    CHECK(at::equal(add_gated_norm(part(c.x), part(c.y), c.gates, {5, 7}, c.gain, c.bias, 1e-6), part(all)));
    // Four bytes off the kernel's alignment: plain ATen takes it.
    const at::Tensor shifted = at::randn({50 * 1536 + 2}, c.x.options()).narrow(0, 2, 50 * 1536).view({50, 1536});
    shifted.copy_(c.y);
    CHECK(test::relative_error(norm_rows(shifted, c.gain, c.bias, 1e-6), c.norm64(c.y)) < test::rounding(at::kBFloat16));
  }
}

TEST_CASE("the norms of rows have gradients, and refuse what does not fit") {
  for (const auto& device : test_devices()) {
    const Case c(3, 64, at::TensorOptions().dtype(at::kFloat).device(device), {3});
    at::Tensor y = c.y.clone().requires_grad_(true);
    norm_rows(y, c.gain, c.bias, 1e-6).sum().backward();
    CHECK(y.grad().isfinite().all().item<bool>());
    CHECK_THROWS_WITH(norm_rows(c.y, c.gain.narrow(0, 0, 8), c.bias, 1e-6), Catch::Matchers::ContainsSubstring("gain and bias [64] float32"));
    CHECK_THROWS_WITH(add_gated_norm(c.x, c.y, c.gates, {2}, c.gain, c.bias, 1e-6), Catch::Matchers::ContainsSubstring("gates for 3 rows, found them for 2"));
    CHECK_THROWS_WITH(add_gated_norm(c.x, c.y.narrow(0, 0, 2), c.gates, {3}, c.gain, c.bias, 1e-6),
                      Catch::Matchers::ContainsSubstring("an addend [3, 64]"));
    CHECK_THROWS_WITH(add_gated_norm(c.x, c.y, c.gates.to(at::kHalf), {3}, c.gain, c.bias, 1e-6), Catch::Matchers::ContainsSubstring("expected gates"));
  }
}
