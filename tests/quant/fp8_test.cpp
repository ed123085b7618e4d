// Products in 8-bit floats against float32 and float64, on every device that has them.
#include "quant/fp8.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include "base/cuda.h"
#include "base/error.h"
#include "quant/linear.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

// The CPU, and GPUs whose tensor cores know e4m3.
std::vector<at::Device> product_devices() {
  std::vector<at::Device> devices;
  for (const at::Device& device : test_devices())
    if (device.is_cpu() || cuda::capability(at::empty({0}, at::TensorOptions().device(device))) >= 89)
      devices.push_back(device);
  return devices;
}

at::Tensor value_of(const Fp8Rows& rows) {
  return (rows.values.to(at::kFloat) * rows.scales.unsqueeze(1)).to(at::kCPU, at::kDouble);
}

// 3 bits of mantissa: half a step is a sixteenth of the value, and near zero 2^-10 of the scale. `slack` is what `want`
// may be off itself.
bool within_rounding(const Fp8Rows& rows, const at::Tensor& want, double slack = 0) {
  const at::Tensor exact = want.to(at::kCPU, at::kDouble), scales = rows.scales.to(at::kCPU, at::kDouble).unsqueeze(1);
  const at::Tensor bound = at::maximum(exact.abs() / 16, scales / 1024) * (1 + 1e-5) + slack * scales;
  return ((value_of(rows) - exact).abs() <= bound).all().item<bool>();
}

at::TensorOptions bf16_on(const at::Device& device) { return at::TensorOptions().dtype(at::kBFloat16).device(device); }

}  // namespace

TEST_CASE("rows are rounded to e4m3 within half a step, each by its own scale") {
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kHalf, at::kBFloat16})
      for (const auto& [rows, width] : std::vector<std::array<int64_t, 2>>{{1, 8},
                                                                           {3, 16},
                                                                           {7, 5},
                                                                           {77, 48},
                                                                           {300, 1536},
                                                                           {33, 5120},
                                                                           {5, 8960},
                                                                           {2, 13824},
                                                                           {2, 20480},
                                                                           {1, 20488},
                                                                           {0, 16},
                                                                           {4, 1}}) {
        INFO(rows << " x " << width << " " << c10::toString(dtype) << " on " << device.str());
        const at::Tensor sizes = at::pow(10.0, at::randn({rows, 1}));
        const at::Tensor x = (at::randn({rows, width}) * sizes).to(device, dtype);
        const Fp8Rows got = quantise_rows(x);
        CHECK(got.values.scalar_type() == at::kFloat8_e4m3fn);
        CHECK(got.scales.sizes() == at::IntArrayRef{rows});
        CHECK(within_rounding(got, x));
        if (rows > 0) CHECK(test::relative_error(got.scales, x.to(at::kDouble).abs().amax(1) / 448) < 1e-6);
      }
}

TEST_CASE("rows of zeros, of tiny and of huge numbers stay numbers") {
  for (const auto& device : test_devices()) {
    INFO(device.str());
    at::Tensor x = at::randn({6, 64}, bf16_on(device));
    const double factors[] = {0, 1e-38, 1e-32, 1e-20, 1e20, 1e37};
    for (int i = 0; i < 6; ++i) x[i].mul_(factors[i]);
    const Fp8Rows got = quantise_rows(x);
    const at::Tensor value = value_of(got);
    CHECK(at::isfinite(value).all().item<bool>());
    CHECK(value.select(0, 0).abs().max().item<double>() == 0);
    CHECK(value.select(0, 1).abs().max().item<double>() < 1e-30);
    CHECK(within_rounding({got.values.narrow(0, 3, 3), got.scales.narrow(0, 3, 3)}, x.narrow(0, 3, 3)));
  }
}

TEST_CASE("what is not finite does not become finite") {
  for (const auto& device : test_devices())
    for (const double broken : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      INFO(broken << " on " << device.str());
      at::Tensor x = at::randn({3, 64}, bf16_on(device));
      x[1][17].fill_(broken);
      const at::Tensor finite = at::isfinite(value_of(quantise_rows(x)));
      CHECK_FALSE(finite.select(0, 1).all().item<bool>());
      CHECK(finite.select(0, 0).all().item<bool>());
      CHECK(finite.select(0, 2).all().item<bool>());
    }
}

TEST_CASE("gelu and rounding in one pass") {
  for (const auto& device : test_devices())
    for (const auto dtype : test_dtypes())
      for (const bool biased : {true, false})
        for (const auto& [rows, width] : std::vector<std::array<int64_t, 2>>{{5, 64}, {33, 8960}, {3, 13824}, {7, 5}}) {
          INFO(rows << " x " << width << " " << c10::toString(dtype) << (biased ? " with bias on " : " on ")
                    << device.str());
          at::Tensor x = (at::randn({rows, width}) * 3).to(device, dtype);
          x[0].mul_(1e4);  // far behind both ends of the curve
          x[0][0].fill_(2e4);  // a row of the curve's lower end alone would be rounded by a scale of almost nothing
          const at::Tensor bias = biased ? at::randn({width}).to(device, dtype) : at::Tensor();
          const at::Tensor sum = biased ? x.to(at::kDouble) + bias.to(at::kDouble) : x.to(at::kDouble);
          CHECK(within_rounding(gelu_quantise_rows(x, bias), at::gelu(sum, "tanh"), 1e-4));
        }
}

TEST_CASE("a linear layer in fp8 is as close to float32 as 3 bits of mantissa allow") {
  for (const auto& device : product_devices())
    for (const auto& [rows, in, out] : std::vector<std::array<int64_t, 3>>{
             {1, 16, 16}, {77, 48, 144}, {300, 256, 96}, {1000, 1536, 512}, {0, 16, 32}})
      for (const bool biased : {true, false}) {
        INFO(rows << " x " << in << " x " << out << (biased ? " with bias on " : " on ") << device.str());
        // Rows and channels of very different sizes: with one scale for all, the small ones would vanish.
        const at::Tensor x =
            (at::randn({rows, in}) * at::pow(10.0, at::randn({rows, 1}) * 2)).to(device, at::kBFloat16);
        Linear layer{(at::randn({out, in}) * at::pow(10.0, at::randn({out, 1}))).to(device, at::kBFloat16),
                     biased ? at::randn({out}, bf16_on(device)) : at::Tensor()};
        const at::Tensor w = layer.weight.to(at::kCPU, at::kDouble),
                         product = at::linear(x.to(at::kCPU, at::kDouble), w);
        const at::Tensor want = biased ? product + layer.bias.to(at::kCPU, at::kDouble) : product;
        REQUIRE(layer.to_fp8());
        CHECK(layer.in_fp8());
        CHECK(layer.weight.element_size() == 1);
        at::Tensor got = test::poisoned({rows, out}, bf16_on(device));
        layer.into(got, x);
        CHECK(test::relative_error(layer(x), got) < 1e-6);
        CHECK(layer(x.view({1, rows, in})).sizes() == at::IntArrayRef({1, rows, out}));
        if (rows * in < 1000) continue;
        // Each factor's rounding is off by 2.6 % in the mean, so their product by 3.7 % of |x| |w| / sqrt(in). Measured
        // against that for each row and channel, so that no small one hides; what bfloat16 rounds off comes on top.
        const at::Tensor size = x.to(at::kCPU, at::kDouble).norm(2, 1).unsqueeze(1) * w.norm(2, 1).unsqueeze(0) /
                                std::sqrt(static_cast<double>(in));
        const at::Tensor error = (got.to(at::kCPU, at::kDouble) - want) / (size + want.abs() / 10);
        CHECK(error.pow(2).mean().sqrt().item<double>() < 0.045);
        CHECK(error.pow(2).mean().sqrt().item<double>() > 0.01);
        CHECK(error.pow(2).mean(1).sqrt().max().item<double>() < 0.08);
        CHECK(error.pow(2).mean(0).sqrt().max().item<double>() < 0.08);
      }
}

TEST_CASE("the device's product is that of the reference") {
  for (const auto& device : product_devices()) {
    const at::Tensor x = at::randn({130, 512}, bf16_on(device)), bias = at::randn({96}, bf16_on(device));
    const Fp8Rows rows = quantise_rows(x), weight = quantise_rows(at::randn({96, 512}, bf16_on(device)));
    at::Tensor got = test::poisoned({130, 96}, bf16_on(device)), want = at::empty({130, 96}, bf16_on(device));
    fp8_product(got, rows, weight, bias);
    longtake::reference::fp8_product(want, rows, weight, bias);
    // One rounding to bfloat16, and the tensor cores' sums of fewer than 32 bits.
    CHECK(test::relative_error(got, want) < 1e-2);
  }
}

TEST_CASE("the feed-forward pair in fp8") {
  for (const auto& device : product_devices()) {
    INFO(device.str());
    const at::Tensor x = at::randn({70, 128}, bf16_on(device));
    Linear first{at::randn({512, 128}, bf16_on(device)) / std::sqrt(128.0), at::randn({512}, bf16_on(device))};
    Linear second{at::randn({128, 512}, bf16_on(device)) / std::sqrt(512.0), at::randn({128}, bf16_on(device))};
    const at::Tensor want = at::linear(
        at::gelu(at::linear(x.to(at::kFloat), first.weight.to(at::kFloat), first.bias.to(at::kFloat)), "tanh"),
        second.weight.to(at::kFloat), second.bias.to(at::kFloat));
    CHECK(test::relative_error(feed_forward(x, first, second), want) < 0.01);
    REQUIRE((first.to_fp8() && second.to_fp8()));
    at::Tensor hidden = test::poisoned({70, 512}, bf16_on(device)), out = test::poisoned({70, 128}, bf16_on(device));
    feed_forward_into(out, hidden, x, first, second);
    CHECK(test::relative_error(out, want) < 0.06);
    CHECK(test::relative_error(feed_forward(x, first, second), out) < 1e-6);
    // One of them alone.
    Linear plain{at::randn({512, 128}, bf16_on(device)) / std::sqrt(128.0), first.bias};
    CHECK(at::isfinite(feed_forward(x, plain, second)).all().item<bool>());
    feed_forward_into(out, hidden, x, plain, second);
    CHECK(at::isfinite(out).all().item<bool>());
  }
}

TEST_CASE("weights that do not fit, or are not finite, stay as they are") {
  for (const auto& shape : std::vector<std::array<int64_t, 2>>{{16, 24}, {24, 16}, {8, 16}, {0, 16}}) {
    Linear layer{at::randn(shape, at::kBFloat16), {}};
    const at::Tensor before = layer.weight;
    CHECK_FALSE(layer.to_fp8());
    CHECK_FALSE(layer.in_fp8());
    CHECK(layer.weight.is_same(before));
  }
  Linear broken{at::randn({16, 16}, at::kBFloat16), {}};
  broken.weight[3][4].fill_(std::numeric_limits<double>::infinity());
  CHECK_FALSE(broken.to_fp8());
  Linear zeros{at::zeros({16, 16}, at::kBFloat16), at::zeros({16}, at::kBFloat16)};
  CHECK(zeros.to_fp8());
  CHECK(zeros(at::randn({3, 16})).abs().max().item<double>() == 0);
}

TEST_CASE("fp8 operators say what they expect") {
  CHECK_THROWS_WITH(quantise_rows(at::randn({4})), ContainsSubstring("expected dense rows"));
  CHECK_THROWS_WITH(quantise_rows(at::randn({4, 6}).t()), ContainsSubstring("expected dense rows"));
  CHECK_THROWS_WITH(quantise_rows(at::arange(16).view({2, 8})), ContainsSubstring("Long"));
  CHECK_THROWS_WITH(gelu_quantise_rows(at::randn({4, 6}), at::randn({5})),
                    ContainsSubstring("expected a dense bias [6]"));
  const Fp8Rows x = quantise_rows(at::randn({4, 32})), weight = quantise_rows(at::randn({16, 32})),
                other = quantise_rows(at::randn({16, 48}));
  const Fp8Rows ragged = quantise_rows(at::randn({17, 32}));
  at::Tensor out = at::empty({4, 16}, at::kBFloat16), wrong = at::empty({4, 16});
  CHECK_THROWS_WITH(fp8_product(wrong, x, weight, {}), ContainsSubstring("expected a dense bfloat16 result [4, 16]"));
  CHECK_THROWS_WITH(fp8_product(out, x, other, {}), ContainsSubstring("expected 48 input features, found 32"));
  CHECK_THROWS_WITH(fp8_product(out, x, ragged, {}), ContainsSubstring("multiples of 16"));
  CHECK_THROWS_WITH(fp8_product(out, x, weight, at::randn({16})), ContainsSubstring("expected a bfloat16 bias [16]"));
  CHECK_THROWS_WITH((Linear{weight.values, {}, weight.scales}.in_float32(at::randn({4, 32}))),
                    ContainsSubstring("not in fp8"));
  Linear narrow{at::randn({16, 16}), at::randn({16})};
  CHECK_THROWS_WITH(narrow.to_fp8(), ContainsSubstring("bfloat16 bias"));
}
