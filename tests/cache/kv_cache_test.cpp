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

TEST_CASE("reserved room changes no value, and rows come and go in it without other memory") {
  const KvShape plain{2, 2, 40, 2, 4};
  KvCache kv(plain, at::kFloat, at::kCPU, TokenRange{0, 0}), roomy(plain, at::kFloat, at::kCPU, TokenRange{0, 0});
  roomy.reserve(16);
  const auto check = [&](bool in_room) {
    for (int l = 0; l < 2; ++l)
      for (int b = 0; b < 2; ++b) {
        const KvLayer &a = kv.layer(l, b), &c = roomy.layer(l, b);
        CHECK((a.first == c.first && at::equal(a.k, c.k) && at::equal(a.v, c.v) && a.bias.defined() == c.bias.defined()));
        if (a.bias.defined()) CHECK(at::equal(a.bias, c.bias));
        CHECK(c.k.is_alias_of(c.k_room) == in_room);
        CHECK(c.k.is_contiguous());
      }
    CHECK(kv.bytes() == roomy.bytes());
  };
  const auto both = [&](const std::function<void(KvCache&)>& change) { change(kv), change(roomy); };
  const auto write = [&](int64_t start) {
    const at::Tensor k = at::randn({4, 2, 4}), v = at::randn({4, 2, 4});
    both([&](KvCache& cache) {
      for (int l = 0; l < 2; ++l)
        for (int b = 0; b < 2; ++b) cache.layer(l, b).write(start, 1, 4, TokenSet::all(), k + l, v + b);
    });
  };
  for (int64_t start = 0; start < 16; start += 4) {
    both([&](KvCache& cache) { cache.grow(start + 4); });
    write(start);
    check(true);
  }
  // Tokens go in front and come behind, also farther than what is held; what a merge leaves takes the front.
  for (const TokenRange held : {TokenRange{4, 16}, TokenRange{4, 20}, TokenRange{9, 21}, TokenRange{5, 18}, TokenRange{30, 34}, TokenRange{26, 38}}) {
    both([&](KvCache& cache) { cache.hold(held); });
    check(true);
    write(held.end - 4);
  }
  const at::Tensor fewer = at::randn({3, 2, 4}), bias = at::randn({3});
  both([&](KvCache& cache) {
    for (int b = 0; b < 2; ++b) {
      KvLayer& layer = cache.layer(0, b);
      layer.replace_before(34, fewer, layer.v.narrow(0, 2, 3), bias);  // a part of itself too
    }
    cache.layer(1, 0).replace_before(34, fewer, fewer);
    cache.layer(1, 1).replace_before(34, fewer, fewer);
  });
  check(true);
  both([&](KvCache& cache) { cache.hold({31, 38}); });
  check(true);
  // What outgrows it is held all the same.
  both([&](KvCache& cache) { cache.hold({10, 40}); });
  check(false);
}
