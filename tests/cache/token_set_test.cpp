#include "cache/token_set.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>

#include "cache/kv_cache.h"
#include "tests/catch.h"
#include "tests/devices.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>

using namespace longtake;

namespace {
at::Tensor longs(std::vector<int64_t> values) { return at::tensor(values, at::TensorOptions().dtype(at::kLong)); }
}  // namespace

TEST_CASE("a column is the same position of every frame") {
  const TokenSet set = TokenSet::columns(longs({0, 3}));
  CHECK(set.count(3, 4) == 6);
  CHECK(at::equal(set.indices(3, 4, at::kCPU), longs({0, 3, 4, 7, 8, 11})));
  CHECK(set.count_by_frame(3, 4) == std::vector<int64_t>{2, 2, 2});
}

TEST_CASE("a list counts by frame") {
  const TokenSet set = TokenSet::list(longs({0, 1, 5, 11}));
  CHECK(set.count(3, 4) == 4);
  CHECK(set.count_by_frame(3, 4) == std::vector<int64_t>{2, 1, 1});
}

TEST_CASE("an empty selection is the empty set, whatever its form") {
  CHECK(TokenSet::columns(longs({})).is_none());
  CHECK(TokenSet::list(longs({})).is_none());
  CHECK(TokenSet::none().count(3, 4) == 0);
  CHECK(TokenSet::all().count(3, 4) == 12);
}

TEST_CASE("equal sets are known to be equal where one can tell without the device") {
  for (const auto& device : test_devices()) {
    const at::Tensor index = longs({0, 3}).to(device);
    CHECK(TokenSet::columns(index).known_equal(TokenSet::columns(index)));
    CHECK(TokenSet::columns(index).known_equal(TokenSet::columns(index.clone())) == device.is_cpu());
    CHECK_FALSE(TokenSet::columns(index).known_equal(TokenSet::list(index)));
    CHECK_FALSE(TokenSet::columns(index).known_equal(TokenSet::columns(longs({0, 2}).to(device))));
    CHECK_FALSE(TokenSet::columns(index).known_equal(TokenSet::all()));
  }
  CHECK(TokenSet::all().known_equal(TokenSet::all()));
  CHECK_FALSE(TokenSet::all().known_equal(TokenSet::none()));
}

TEST_CASE("K/V rows land at their tokens' places and nowhere else") {
  for (const auto& device : test_devices())
    for (const auto dtype : test_dtypes()) {
      const auto options = at::TensorOptions().dtype(dtype).device(device);
      KvCache cache({1, 2, 24, 3, 4}, dtype, device);
      KvLayer& layer = cache.layer(0, 1);
      const at::Tensor k = at::randn({6, 3, 4}, options), v = at::randn({6, 3, 4}, options);
      layer.write(12, 3, 4, TokenSet::columns(longs({0, 3}).to(device)), k, v);
      CHECK(at::equal(layer.k.index_select(0, longs({12, 15, 16, 19, 20, 23}).to(device)), k));
      CHECK(at::equal(layer.v.index_select(0, longs({12, 15, 16, 19, 20, 23}).to(device)), v));
      CHECK(layer.k.narrow(0, 0, 12).abs().max().item<float>() == 0);
      CHECK(layer.k[13].abs().max().item<float>() == 0);
      CHECK(cache.layer(0, 0).k.abs().max().item<float>() == 0);
      CHECK_THROWS(layer.write(13, 3, 4, TokenSet::all(), at::randn({12, 3, 4}, options), at::randn({12, 3, 4}, options)));
      CHECK_THROWS(layer.write(0, 3, 4, TokenSet::all(), k, v));
    }
  CHECK(KvShape{30, 2, 51000, 12, 128}.bytes(at::kBFloat16) == 2 * 9400320000LL);  // spec 9: 9.4 GB a branch
}

TEST_CASE("sets come back from their masks") {
  for (const auto& device : test_devices()) {
    const auto same = [&](const TokenSet& set, TokenSet::Kind kind) {
      const TokenSet back = TokenSet::from_mask(set.mask(3, 4, device));
      CHECK(back.kind() == kind);
      CHECK(at::equal(back.indices(3, 4, at::kCPU), set.indices(3, 4, at::kCPU)));
    };
    same(TokenSet::none(), TokenSet::Kind::none);
    same(TokenSet::all(), TokenSet::Kind::all);
    same(TokenSet::columns(longs({0, 3})), TokenSet::Kind::columns);
    same(TokenSet::list(longs({0, 3, 5})), TokenSet::Kind::list);
    same(TokenSet::list(longs({1, 5, 9})), TokenSet::Kind::columns);
  }
}
