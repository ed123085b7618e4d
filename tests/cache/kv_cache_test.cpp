// Layers in fp8 beside others: sizes, the scale of values, and run state.
#include "cache/kv_cache.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include "tests/catch.h"

using namespace longtake;

namespace {

KvShape shape() {
  KvShape s{3, 2, 10, 2, 8};
  s.fp8 = {false, true, true};
  return s;
}

}  // namespace

TEST_CASE("layers in fp8 take half the memory of bfloat16, branches in one buffer") {
  KvCache kv(shape(), at::kBFloat16, at::kCPU);
  CHECK(kv.layer(0, 0).k.scalar_type() == at::kBFloat16);
  CHECK_FALSE(kv.layer(0, 0).in_fp8());
  for (int layer : {1, 2})
    for (int branch : {0, 1}) {
      CHECK(kv.layer(layer, branch).in_fp8());
      CHECK(kv.layer(layer, branch).v.scalar_type() == at::kFloat8_e4m3fn);
      CHECK(kv.layer(layer, branch).k.is_alias_of(kv.layer(layer, 0).k));
    }
  CHECK(shape().bytes(at::kBFloat16) == 2 * 2 * 10 * 16 * (2 + 1 + 1));
  CHECK(kv.bytes() == shape().bytes(at::kBFloat16));
  KvShape wrong = shape();
  wrong.fp8.pop_back();
  CHECK_THROWS_WITH(KvCache(wrong, at::kBFloat16, at::kCPU), Catch::Matchers::ContainsSubstring("each of 3 layers"));
}

TEST_CASE("the scale of values is settled once, with room for larger ones") {
  KvCache kv(shape(), at::kBFloat16, at::kCPU);
  KvLayer& layer = kv.layer(1, 0);
  const at::Tensor values = at::randn({5, 2, 8}).to(at::kBFloat16);
  layer.settle_v_scale(values);
  const double largest = values.abs().max().item<double>();
  CHECK(std::abs(layer.v_scale.item<double>() * 448 - largest * KvLayer::kValueRoom) < 1e-5);
  CHECK_THROWS(layer.settle_v_scale(values));
  CHECK_FALSE(kv.layer(1, 1).v_scale_known);
  CHECK_THROWS(kv.layer(0, 0).settle_v_scale(values));
  kv.layer(2, 0).settle_v_scale(values * 0);
  CHECK(kv.layer(2, 0).v_scale.item<double>() > 0);
  CHECK_THROWS_WITH(layer.write(0, 5, 1, TokenSet::all(), values, values), Catch::Matchers::ContainsSubstring("not in fp8"));
}

TEST_CASE("run state keeps layers in fp8 with their scales") {
  KvCache kv(shape(), at::kBFloat16, at::kCPU), back(shape(), at::kBFloat16, at::kCPU);
  kv.layer(1, 1).settle_v_scale(at::randn({4}));
  kv.layer(1, 1).v.copy_(at::randn({10, 2, 8}).to(at::kFloat8_e4m3fn));
  kv.layer(0, 0).k.copy_(at::randn({10, 2, 8}));
  State state;
  kv.save(state);
  back.load(state);
  CHECK_NOTHROW(state.check_all_read());
  CHECK(at::equal(back.layer(1, 1).v.to(at::kFloat), kv.layer(1, 1).v.to(at::kFloat)));
  CHECK(at::equal(back.layer(0, 0).k, kv.layer(0, 0).k));
  CHECK(at::equal(back.layer(1, 1).v_scale, kv.layer(1, 1).v_scale));
  CHECK(back.layer(1, 1).v_scale_known);
  CHECK_FALSE(back.layer(1, 0).v_scale_known);
  // A run in another precision cannot take it up.
  KvShape plain = shape();
  plain.fp8.clear();
  KvCache other(plain, at::kBFloat16, at::kCPU);
  CHECK_THROWS_WITH(other.load(state), Catch::Matchers::ContainsSubstring("BFloat16"));
}
