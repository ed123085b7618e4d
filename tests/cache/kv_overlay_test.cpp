// Rows that a call computes laid over stored ones.
#include "cache/kv_overlay.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>

#include "base/error.h"
#include "tests/catch.h"

using namespace longtake;

namespace {

// Row r holds the value `from + r`.
at::Tensor rows(double from, int64_t count) {
  return at::arange(from, from + double(count), at::kFloat).view({count, 1, 1});
}
std::vector<float> values(const at::Tensor& x) {
  return {x.contiguous().data_ptr<float>(), x.contiguous().data_ptr<float>() + x.numel()};
}

}  // namespace

TEST_CASE("fresh rows take the place of stored ones") {
  const KvLayer store{rows(0, 12), rows(100, 12), {}, 0};
  const at::Tensor k = rows(50, 6), v = rows(150, 6);
  const FreshRows fresh[] = {{3, 3, 0}, {9, 3, 3}};
  const KvLayer seen = overlay(&store, {1, 12}, fresh, k, v);
  CHECK(values(seen.k) == std::vector<float>{1, 2, 50, 51, 52, 6, 7, 8, 53, 54, 55});
  CHECK(values(seen.v) == std::vector<float>{101, 102, 150, 151, 152, 106, 107, 108, 153, 154, 155});
  CHECK(seen.first == 1);
  CHECK(values(overlay(&store, {4, 5}, fresh, k, v).k) == std::vector<float>{51});
}

TEST_CASE("without fresh rows, or with nothing else, no row is copied") {
  const KvLayer store{rows(0, 12), rows(0, 12), {}, 0};
  CHECK(overlay(&store, {2, 8}, {}, {}, {}).k.data_ptr() == store.k[2].data_ptr());
  const at::Tensor k = rows(50, 6);
  const FreshRows neighbours[] = {{3, 3, 0}, {6, 3, 3}};
  CHECK(overlay(nullptr, {3, 9}, neighbours, k, k).k.data_ptr() == k.data_ptr());
}

TEST_CASE("what a compressed store dropped is left out, what is missing is an error") {
  const KvLayer store{rows(0, 4), rows(0, 4), at::arange(4, at::kFloat), 6};  // tokens 6 ... 9
  const at::Tensor k = rows(50, 2);
  const FreshRows fresh[] = {{10, 2, 0}};
  const KvLayer seen = overlay(&store, {0, 12}, fresh, k, k);
  CHECK(seen.first == 6);
  CHECK(values(seen.k) == std::vector<float>{0, 1, 2, 3, 50, 51});
  CHECK(values(seen.bias) == std::vector<float>{0, 1, 2, 3, 0, 0});
  CHECK_THROWS_AS(overlay(&store, {0, 13}, fresh, k, k), Error);
  CHECK_THROWS_AS(overlay(nullptr, {9, 12}, fresh, k, k), Error);
  CHECK_THROWS_AS(overlay(&store, {0, 6}, {}, k, k), Error);
}
