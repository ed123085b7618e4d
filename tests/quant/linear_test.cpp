// Products into a given tensor, bias and gelu included, against float64.
#include "quant/linear.h"

#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>

#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"

using namespace longtake;

TEST_CASE("linear layers write into a given tensor, with the tanh form of gelu where asked") {
  at::globalContext().setAllowTF32CuBLAS(false);
  for (const auto& device : test_devices())
    for (const auto dtype : test_dtypes())
      for (const auto& [rows, in, out] : std::vector<std::array<int64_t, 3>>{
               {1, 8, 8}, {77, 48, 144}, {300, 256, 96}, {1000, 1536, 512}, {0, 16, 8}, {5, 24, 1}})
        for (const bool biased : {true, false}) {
          const auto options = at::TensorOptions().dtype(dtype).device(device);
          const Linear layer{at::randn({out, in}, options), biased ? at::randn({out}, options) : at::Tensor()};
          const at::Tensor x = at::randn({rows, in}, options);
          const at::Tensor want = at::linear(x.to(at::kDouble), layer.weight.to(at::kDouble),
                                             biased ? layer.bias.to(at::kDouble) : at::Tensor());
          INFO(rows << " x " << in << " x " << out << (biased ? " with bias on " : " on ") << device.str());
          at::Tensor y = test::poisoned({rows, out}, options);
          layer.into(y, x);
          CHECK(test::relative_error(y, want) < test::rounding(dtype));
          y.fill_(std::numeric_limits<double>::quiet_NaN());
          layer.gelu_into(y, x);
          // Off the GPU the product is rounded before gelu as well.
          CHECK(test::relative_error(y, at::gelu(want, "tanh")) < 2 * test::rounding(dtype));
        }
}

TEST_CASE("linear layers refuse a result that does not fit") {
  const Linear layer{at::randn({4, 6}), at::randn({4})};
  at::Tensor narrow = at::empty({3, 5}), other = at::empty({3, 4}, at::kBFloat16), strided = at::empty({4, 3}).t();
  for (at::Tensor* out : {&narrow, &other, &strided}) CHECK_THROWS(layer.into(*out, at::randn({3, 6})));
  at::Tensor out = at::empty({3, 4});
  CHECK_THROWS_WITH(layer.gelu_into(out, at::randn({3, 5})), Catch::Matchers::ContainsSubstring("expected [rows, 6]"));
}

TEST_CASE("a product of bfloat16 factors in float32 keeps float32's sums") {
  for (const auto& device : test_devices())
    for (const bool biased : {false, true}) {
      INFO((biased ? "with" : "without") << " bias on " << device.str());
      const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
      const at::Tensor x = at::randn({2, 33, 512}, options).to(at::kBFloat16), w = at::randn({48, 512}, options).to(at::kBFloat16);
      const Linear layer{w, biased ? at::randn({48}, options).to(at::kBFloat16) : at::Tensor()};
      at::Tensor want = at::linear(x.to(at::kDouble), w.to(at::kDouble));
      if (biased) want = want + layer.bias.to(at::kDouble);
      const at::Tensor got = layer.in_float32(x);
      CHECK(got.scalar_type() == at::kFloat);
      CHECK(got.sizes() == at::IntArrayRef{2, 33, 48});
      CHECK(test::relative_error(got, want) < 2e-6);
    }
}
