#include "attention/rope.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/view_as_real.h>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/devices.h"

using namespace longtake;

TEST_CASE("rotations follow the 44/42/42 split of a head") {
  const at::Tensor table = at::view_as_real(rope_3d(3, 4, 5, 128, at::kCPU));
  const int64_t f = 2, y = 3, x = 1, row = (f * 4 + y) * 5 + x;
  auto angle = [](int64_t position, int64_t pair, int64_t width) {
    return static_cast<double>(position) * std::pow(10000.0, -2.0 * static_cast<double>(pair) / static_cast<double>(width));
  };
  for (const auto& [pair, expected] : std::vector<std::pair<int64_t, double>>{
           {0, angle(f, 0, 44)}, {21, angle(f, 21, 44)}, {22, angle(y, 0, 42)}, {42, angle(y, 20, 42)}, {43, angle(x, 0, 42)}, {63, angle(x, 20, 42)}}) {
    CHECK(std::abs(table[row][pair][0].item<double>() - std::cos(expected)) < 1e-6);
    CHECK(std::abs(table[row][pair][1].item<double>() - std::sin(expected)) < 1e-6);
  }
}

TEST_CASE("rotation keeps norms, leaves position zero alone and depends on distance only") {
  for (const auto& device : test_devices()) {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
    const at::Tensor table = rope_3d(4, 2, 3, 24, device);
    const at::Tensor x = at::randn({24, 2, 24}, options);
    const at::Tensor rotated = apply_rope(x, table);
    CHECK((rotated.norm(2, -1) - x.norm(2, -1)).abs().max().item<float>() < 1e-5f);
    CHECK(at::equal(rotated[0], x[0]));
    // q at frame 1 with k at frame 0 scores as q at frame 3 with k at frame 2.
    const at::Tensor q = at::randn({1, 1, 24}, options), k = at::randn({1, 1, 24}, options);
    auto at_frame = [&](const at::Tensor& v, int64_t frame) { return apply_rope(v, table.narrow(0, frame * 6, 1)); };
    const double near = (at_frame(q, 1) * at_frame(k, 0)).sum().item<double>();
    const double far = (at_frame(q, 3) * at_frame(k, 2)).sum().item<double>();
    CHECK(std::abs(near - far) < 1e-4);
  }
}

TEST_CASE("halves rotate against each other and the channels behind them stay") {
  for (const auto& device : test_devices()) {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
    const at::Tensor x = at::randn({2, 3, 8}, options), angle = at::randn({2, 3}, options);
    const at::Tensor out = apply_rope_halves(x, at::cat({at::sin(angle), at::cos(angle)}, 1));
    for (int64_t token = 0; token < 2; ++token)
      for (int64_t c = 0; c < 3; ++c) {
        const double a = angle[token][c].item<double>(), first = x[token][1][c].item<double>(), second = x[token][1][c + 3].item<double>();
        CHECK(std::abs(out[token][1][c].item<double>() - (first * std::cos(a) - second * std::sin(a))) < 1e-6);
        CHECK(std::abs(out[token][1][c + 3].item<double>() - (second * std::cos(a) + first * std::sin(a))) < 1e-6);
      }
    CHECK(at::equal(out.narrow(2, 6, 2), x.narrow(2, 6, 2)));
    CHECK_THROWS_AS(apply_rope_halves(x, at::randn({2, 10}, options)), Error);
  }
}
