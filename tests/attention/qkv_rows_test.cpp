// Norm, rotation and the way into the key and value store against float64, on every device and dtype.
#include "attention/qkv_rows.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/view_as_real.h>
#include <ATen/ops/zeros.h>

#include "attention/rope.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"

using namespace longtake;

namespace {

at::Tensor rms64(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = x.to(at::kDouble);
  return wide * (wide.pow(2).mean(-1, true) + eps).rsqrt() * weight.to(at::kDouble);
}

// x [rows, heads, width] with pairs of channels rotated by [rows, width/2] complex.
at::Tensor rotated64(const at::Tensor& x, const at::Tensor& rotations) {
  const at::Tensor r = at::view_as_real(rotations).to(at::kDouble).unsqueeze(1);
  const at::Tensor pairs = x.reshape({x.size(0), x.size(1), x.size(2) / 2, 2}), a = pairs.select(-1, 0),
                   b = pairs.select(-1, 1);
  const at::Tensor c = r.select(-1, 0), s = r.select(-1, 1);
  return at::stack({a * c - b * s, a * s + b * c}, -1).flatten(2);
}

struct Shape {
  int64_t rows, heads, width;
};

}  // namespace

TEST_CASE("qkv_rows normalises, rotates and stores") {
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf})
      for (const Shape& shape : std::vector<Shape>{{1, 1, 8},
                                                   {7, 2, 24},
                                                   {33, 3, 16},
                                                   {130, 12, 128},
                                                   {5, 40, 128},
                                                   {9, 24, 128},
                                                   {0, 2, 16},
                                                   {6, 2, 12}}) {
        const auto options = at::TensorOptions().dtype(dtype).device(device);
        const auto ints = options.dtype(at::kInt);
        const int64_t D = shape.heads * shape.width, positions = 48, first = 5;
        const int64_t store_rows = shape.rows + 11;
        const at::Tensor qkv = at::randn({shape.rows, 3 * D}, options);
        const QkNorm norm{at::randn({D}, options), at::randn({D}, options), rope_3d(3, 4, 4, shape.width, device),
                          1e-6};
        const at::Tensor position = at::randint(0, positions, {shape.rows}, ints);
        // Scattered rows; the first is never stored, the second lies before the store and the third behind it.
        at::Tensor row =
            (at::randperm(store_rows, ints.dtype(at::kLong)).narrow(0, 0, shape.rows) + first).to(at::kInt);
        for (int64_t i = 0; i < std::min<int64_t>(shape.rows - 1, 3); ++i)
          row[i].fill_(i == 0 ? -1 : i == 1 ? first - 1 : first + store_rows);
        KvRows store{test::poisoned({store_rows, shape.heads, shape.width}, options),
                     test::poisoned({store_rows, shape.heads, shape.width}, options), row, first};
        at::Tensor q = test::poisoned({shape.rows, shape.heads, shape.width}, options);
        qkv_rows(q, store, qkv, position, norm);

        INFO(shape.rows << " rows, " << shape.heads << " heads of " << shape.width << " on " << device.str());
        const at::Tensor rotations = norm.rotations.index_select(0, position);
        const auto heads = [&](const at::Tensor& x) { return x.view({shape.rows, shape.heads, shape.width}); };
        CHECK(test::relative_error(q, rotated64(heads(rms64(qkv.narrow(1, 0, D), norm.weight_q, 1e-6)), rotations)) <
              test::rounding(dtype));
        const at::Tensor keys = rotated64(heads(rms64(qkv.narrow(1, D, D), norm.weight_k, 1e-6)), rotations);
        std::vector<bool> written(store_rows, false);
        const at::Tensor host_row = row.cpu();
        for (int64_t i = 0; i < shape.rows; ++i) {
          const int64_t to = host_row[i].item<int>() - first;
          if (to < 0 || to >= store_rows) continue;
          written[to] = true;
          CHECK(test::relative_error(store.k[to], keys[i]) < 2 * test::rounding(dtype));
          CHECK(at::equal(store.v[to].flatten(), qkv[i].narrow(0, 2 * D, D)));
        }
        const at::Tensor untouched =
            at::isnan(store.k).flatten(1).all(1).logical_and(at::isnan(store.v).flatten(1).all(1)).cpu();
        for (int64_t r = 0; r < store_rows; ++r) CHECK(untouched[r].item<bool>() == !written[r]);
      }
}

TEST_CASE("qkv_rows into a store in fp8 rounds queries, keys and scaled values to e4m3") {
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf})
      for (const Shape& shape : std::vector<Shape>{{1, 1, 8}, {7, 2, 24}, {130, 12, 128}, {9, 24, 128}, {0, 2, 16}, {6, 2, 12}}) {
        const auto options = at::TensorOptions().dtype(dtype).device(device), e4m3 = options.dtype(at::kFloat8_e4m3fn);
        const auto ints = options.dtype(at::kInt);
        const int64_t D = shape.heads * shape.width, store_rows = shape.rows + 3;
        at::Tensor qkv = at::randn({shape.rows, 3 * D}, options);
        if (shape.rows > 1) qkv[0].narrow(0, 2 * D, D).fill_(3e4);  // more than the scale has room for
        const QkNorm norm{at::randn({D}, options), at::randn({D}, options), rope_3d(3, 4, 4, shape.width, device), 1e-6};
        const at::Tensor position = at::randint(0, 48, {shape.rows}, ints);
        at::Tensor row = at::randperm(store_rows, ints.dtype(at::kLong)).narrow(0, 0, shape.rows).to(at::kInt);
        if (shape.rows > 2) row[2].fill_(-1);
        const auto fresh = [&] {
          return KvRows{at::zeros({store_rows, shape.heads, shape.width}, e4m3), at::zeros({store_rows, shape.heads, shape.width}, e4m3), row, 0,
                        at::full({1}, 0.037, options.dtype(at::kFloat))};
        };
        KvRows store = fresh(), wanted = fresh();
        at::Tensor q = at::zeros({shape.rows, shape.heads, shape.width}, e4m3), wanted_q = q.clone();
        qkv_rows(q, store, qkv, position, norm);
        reference::qkv_rows(wanted_q, wanted, qkv, position, norm);
        if (shape.rows == 0) continue;

        INFO(shape.rows << " rows, " << shape.heads << " heads of " << shape.width << " on " << device.str());
        const auto heads = [&](const at::Tensor& x) { return x.view({shape.rows, shape.heads, shape.width}); };
        const auto wide = [](const at::Tensor& x) { return x.to(at::kFloat); };
        const at::Tensor exact =
            rotated64(heads(rms64(qkv.narrow(1, 0, D), norm.weight_q, 1e-6)), norm.rotations.index_select(0, position));
        // Half a step of 2^-3 at most; 2^-10 where steps are even.
        CHECK(test::relative_error(wide(q), exact) < 0.064);
        // Sums in another order move a value across the border between two neighbours now and then.
        const double moved = shape.rows >= 100 ? 5e-3 : 0.1;
        CHECK(test::relative_error(wide(q), wide(wanted_q)) < moved);
        CHECK(test::relative_error(wide(store.k), wide(wanted.k)) < moved);
        CHECK(at::equal(wide(store.v), wide(wanted.v)));
        for (int64_t i = 0; i < shape.rows; ++i) {
          const int64_t to = row[i].item<int>();
          if (to < 0) continue;
          const at::Tensor value = wide(store.v[to]).flatten(), given = wide(qkv[i].narrow(0, 2 * D, D)) / 0.037;
          if (i == 0 && shape.rows > 1)
            CHECK(at::equal(value, at::full_like(value, 448)));
          else
            CHECK(test::relative_error(value, given) < 0.064);
        }
      }
}

TEST_CASE("rms_rows normalises, in place too") {
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf})
      for (const auto& [rows, width] : std::vector<std::pair<int64_t, int64_t>>{
               {1, 8}, {5, 48}, {3, 264}, {65, 1536}, {9, 5120}, {0, 16}, {4, 20}, {3, 5128}}) {
        const auto options = at::TensorOptions().dtype(dtype).device(device);
        const at::Tensor x = at::randn({rows, width}, options), weight = at::randn({width}, options);
        const at::Tensor want = rms64(x, weight, 1e-6);
        at::Tensor out = test::poisoned({rows, width}, options), same = x.clone();
        rms_rows(out, x, weight, 1e-6);
        rms_rows(same, same, weight, 1e-6);
        INFO(rows << " x " << width << " on " << device.str());
        CHECK(test::relative_error(out, want) < test::rounding(dtype));
        CHECK(at::equal(same, out));
      }
}

TEST_CASE("qkv_rows refuses what does not fit and says what it found") {
  const QkNorm norm{at::randn({16}), at::randn({16}), rope_3d(1, 2, 2, 8, at::kCPU), 1e-6};
  const at::Tensor index = at::randint(0, 4, {3}, at::TensorOptions().dtype(at::kInt));
  at::Tensor q = at::randn({3, 2, 8});
  const auto store = [&] { return KvRows{at::randn({4, 2, 8}), at::randn({4, 2, 8}), index, 0}; };
  KvRows good = store(), long_index = store(), narrow = store();
  long_index.row = index.to(at::kLong);
  narrow.v = narrow.v.narrow(0, 0, 3);
  CHECK_NOTHROW(qkv_rows(q, good, at::randn({3, 48}), index, norm));
  CHECK_THROWS_WITH(qkv_rows(q, good, at::randn({3, 40}), index, norm),
                    Catch::Matchers::ContainsSubstring("expected qkv contiguous [3, 48]"));
  CHECK_THROWS_WITH(qkv_rows(q, long_index, at::randn({3, 48}), index, norm),
                    Catch::Matchers::ContainsSubstring("store rows int32"));
  CHECK_THROWS_WITH(qkv_rows(q, narrow, at::randn({3, 48}), index, norm),
                    Catch::Matchers::ContainsSubstring("values' store"));
  CHECK_THROWS(qkv_rows(q, good, at::randn({3, 48}), index.narrow(0, 0, 2), norm));
  KvRows mixed = store();
  mixed.v_scale = at::ones({1});
  CHECK_THROWS_WITH(qkv_rows(q, mixed, at::randn({3, 48}), index, norm), Catch::Matchers::ContainsSubstring("Float8_e4m3fn"));
}
