// Norms with looked-up scales, alone and behind a gated addition, against float64 on every device and dtype.
#include "models/ops/residual_norm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>

#include "quant/fp8.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"

using namespace longtake;

namespace {

const std::vector<std::pair<int64_t, int64_t>> kShapes{{1, 8},    {5, 48}, {3, 264},  {130, 1536}, {7, 3072}, {9, 5120},
                                                       {0, 1536}, {6, 20}, {4, 5128}, {33, 256},   {2, 1544}};

at::Tensor rows_of(const RowVectors& v) {
  const at::Tensor table = v.table.to(at::kDouble);
  return v.index.defined() ? table.index_select(0, v.index) : table.narrow(0, 0, 1);
}

at::Tensor norm64(const at::Tensor& x, const RowNorm& n) {
  const at::Tensor scale = rows_of(n.scale);
  return at::layer_norm(x.to(at::kDouble), {x.size(1)}, {}, {}, n.eps) * (n.modulates ? scale + 1 : scale) +
         rows_of(n.shift);
}

struct Case {
  at::Tensor vectors, index, weight, bias;  // [4, 6, D] float32, [rows] int32, [D] float32
  Case(int64_t rows, int64_t D, const at::TensorOptions& options)
      : vectors(at::randn({4, 6, D}, options.dtype(at::kFloat))),
        index(at::randint(0, 4, {rows}, options.dtype(at::kInt))),
        weight(at::randn({D}, options.dtype(at::kFloat))),
        bias(at::randn({D}, options.dtype(at::kFloat))) {}
  RowNorm modulation() const { return RowNorm::modulation(vectors, index, 3, 4, 1e-6); }
  RowNorm affine() const { return RowNorm::affine(weight, bias, 1e-6); }
  RowVectors gate() const { return {vectors.select(1, 2), index}; }
};

}  // namespace

TEST_CASE("normalize_rows modulates by the vectors of a row's index") {
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf})
      for (const auto& [rows, D] : kShapes) {
        const auto options = at::TensorOptions().dtype(dtype).device(device);
        const Case c(rows, D, options);
        const at::Tensor x = at::randn({rows, D}, options.dtype(at::kFloat)) * 3 + 1;
        INFO(rows << " x " << D << " " << c10::toString(dtype) << " on " << device.str());
        for (const RowNorm& norm : {c.modulation(), c.affine()}) {
          at::Tensor out = test::poisoned({rows, D}, options);
          normalize_rows(out, x, norm);
          CHECK(test::relative_error(out, norm64(x, norm)) < test::rounding(dtype));
          // The head's: narrow rows, a float32 result.
          at::Tensor wide = test::poisoned({rows, D}, options.dtype(at::kFloat));
          normalize_rows(wide, x.to(dtype), norm);
          CHECK(test::relative_error(wide, norm64(x.to(dtype), norm)) < 2e-6);
        }
      }
}

TEST_CASE("add_and_normalize adds into the residual stream and normalises the sum") {
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf})
      for (const auto& [rows, D] : kShapes) {
        const auto options = at::TensorOptions().dtype(dtype).device(device);
        const Case c(rows, D, options);
        const at::Tensor before = at::randn({rows, D}, options.dtype(at::kFloat)) * 3 + 1,
                         y = at::randn({rows, D}, options);
        INFO(rows << " x " << D << " " << c10::toString(dtype) << " on " << device.str());
        for (const bool gated : {false, true}) {
          const RowVectors gate = gated ? c.gate() : RowVectors{};
          const at::Tensor sum =
              before.to(at::kDouble) +
              y.to(at::kDouble) * (gated ? rows_of(gate) : at::ones({1}, options.dtype(at::kDouble)));
          for (const RowNorm& norm : {c.modulation(), c.affine()}) {
            at::Tensor z = before.clone(), out = test::poisoned({rows, D}, options);
            add_and_normalize(out, z, y, gate, norm);
            CHECK(test::relative_error(z, sum) < 1e-6);
            CHECK(test::relative_error(out, norm64(sum, norm)) < test::rounding(dtype));
          }
          at::Tensor z = before.clone(), out = test::poisoned({rows, D}, options);
          add_rows(out, z, y, gate);
          CHECK(test::relative_error(z, sum) < 1e-6);
          CHECK(test::relative_error(out, sum) < test::rounding(dtype));
        }
      }
}

TEST_CASE("a row's result does not depend on the rows beside it") {
  for (const auto& device : test_devices()) {
    const auto options = at::TensorOptions().dtype(at::kBFloat16).device(device);
    const Case c(50, 1536, options);
    const at::Tensor x = at::randn({50, 1536}, options.dtype(at::kFloat));
    at::Tensor all = test::poisoned({50, 1536}, options), part = test::poisoned({7, 1536}, options);
    normalize_rows(all, x, c.modulation());
    normalize_rows(part, x.narrow(0, 30, 7), RowNorm::modulation(c.vectors, c.index.narrow(0, 30, 7), 3, 4, 1e-6));
    CHECK(at::equal(part, all.narrow(0, 30, 7)));
  }
}

TEST_CASE("the norms refuse what does not fit and say what they found") {
  const Case c(3, 8, at::TensorOptions());
  at::Tensor z = at::randn({3, 8}), out = at::randn({3, 8}), narrow = at::randn({2, 8}),
             half = at::randn({3, 8}).to(at::kHalf);
  CHECK_THROWS_WITH(normalize_rows(narrow, z, c.modulation()),
                    Catch::Matchers::ContainsSubstring("expected the result contiguous [3, 8]"));
  CHECK_THROWS(normalize_rows(half, half, c.modulation()));
  CHECK_THROWS_WITH(add_rows(half, half, half, {}), Catch::Matchers::ContainsSubstring("float32 residual stream"));
  CHECK_THROWS(add_rows(half, z, out, {}));
  RowNorm wrong = c.modulation();
  wrong.shift.index = c.index.clone();
  CHECK_THROWS_WITH(add_and_normalize(out, z, z, {}, wrong), Catch::Matchers::ContainsSubstring("one index"));
  CHECK_THROWS_WITH(normalize_rows(out, z, RowNorm::modulation(c.vectors, c.index.narrow(0, 0, 2), 0, 1, 1e-6)),
                    Catch::Matchers::ContainsSubstring("int32 [3]"));
}

TEST_CASE("add_and_normalize in fp8 rounds the norm as quantise_rows would") {
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kBFloat16})
      for (const auto& [rows, D] : kShapes) {
        const auto options = at::TensorOptions().dtype(dtype).device(device), floats = options.dtype(at::kFloat);
        const Case c(rows, D, options);
        const at::Tensor before = at::randn({rows, D}, floats) * 3 + 1, y = at::randn({rows, D}, options);
        INFO(rows << " x " << D << " " << c10::toString(dtype) << " on " << device.str());
        // The last gate's index is another than the norm's: the kernel has but one.
        const RowVectors others{c.vectors.select(1, 2), at::randint(0, 4, {rows}, options.dtype(at::kInt))};
        for (const auto& [norm, gate] : {std::pair(c.modulation(), c.gate()), std::pair(c.affine(), c.gate()), std::pair(c.modulation(), RowVectors{}),
                                         std::pair(c.modulation(), others)}) {
          at::Tensor z = before.clone(), sum = before.clone(), plain = test::poisoned({rows, D}, options);
          add_and_normalize(plain, sum, y, gate, norm);
          Fp8Rows out{test::poisoned({rows, D}, floats).to(at::kFloat8_e4m3fn), test::poisoned({rows}, floats)};
          add_and_normalize(out, z, y, gate, norm);
          CHECK(at::equal(z, sum));
          if (rows == 0) continue;
          const at::Tensor want = norm64(sum, norm);
          CHECK(test::relative_error(out.scales, want.abs().amax(1) / 448) < 1e-5);
          // Half a unit of 4 significant bits at most, and half the smallest step of a row.
          const at::Tensor got = out.values.to(at::kDouble) * out.scales.to(at::kDouble).unsqueeze(1);
          const at::Tensor bound = want.abs() / 16 + out.scales.to(at::kDouble).unsqueeze(1) / 1024;
          CHECK(((got - want).abs() <= bound * 1.001).all().item<bool>());
        }
      }
}
