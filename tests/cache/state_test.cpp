// Tensors by name, and the caches that save into them and load from them.
#include "cache/state.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "cache/kv_cache.h"
#include "cache/motioncache.h"
#include "cache/residual.h"
#include "tests/catch.h"
#include "tests/forged_state.h"
#include "tests/refused.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

// Four chunks of 2 x 3 tokens in two branches.
StateLayout layout_of(int64_t plane, int64_t frames = 2, at::ScalarType dtype = at::kFloat) {
  return {{frames, frames, frames, frames}, plane, 2, {4, dtype}, {4, dtype}, {4, dtype}, at::kCPU};
}

}  // namespace

TEST_CASE("what is put in comes out, and nothing else does") {
  State state;
  state.put("a", at::ones({2, 3}));
  state.put("nothing", at::Tensor());
  state.put_integers("n", {1, -2, int64_t{1} << 60});
  state.put_numbers("x", {0.1, -1e300});
  CHECK_FALSE(state.contains("nothing"));
  CHECK(state.bytes() == 24 + 24 + 16);
  const State back = reread(state);
  CHECK(at::equal(back.get("a", {2, 3}, at::kFloat), at::ones({2, 3})));
  CHECK(back.integers("n") == std::vector<int64_t>{1, -2, int64_t{1} << 60});
  CHECK_THAT(refused([&] { back.check_all_read(); }), ContainsSubstring("file: 'x' is not known"));
  CHECK(back.numbers("x", 2) == std::vector<double>{0.1, -1e300});
  CHECK(refused([&] { back.check_all_read(); }).empty());
  CHECK_THAT(refused([&] { back.get("b", 1); }), ContainsSubstring("'b' is missing"));
  CHECK_THAT(refused([&] { back.get("a", {3, 2}, at::kFloat); }), ContainsSubstring("should be Float [3, 2], found Float [2, 3]"));
  CHECK_THAT(refused([&] { back.get("a", {2, 3}, at::kHalf); }), ContainsSubstring("should be Half"));
  CHECK_THAT(refused([&] { back.integers("a"); }), ContainsSubstring("1 dimensions"));
  CHECK_THAT(refused([&] { back.integers("x"); }), ContainsSubstring("should be Long"));
  CHECK_THAT(refused([&] { back.numbers("x", 3); }), ContainsSubstring("[3]"));
}

TEST_CASE("keys and values come back into a cache of the same shape") {
  const KvShape shape{2, 2, 6, 2, 4};
  KvCache cache(shape, at::kFloat, at::kCPU), other(shape, at::kFloat, at::kCPU), narrow({2, 2, 5, 2, 4}, at::kFloat, at::kCPU);
  for (int l = 0; l < 2; ++l)
    for (int b = 0; b < 2; ++b) cache.layer(l, b).write(0, 2, 3, TokenSet::all(), at::rand({6, 2, 4}), at::rand({6, 2, 4}));
  State state;
  cache.save(state);
  const State back = reread(state);
  other.load(back);
  for (int l = 0; l < 2; ++l)
    for (int b = 0; b < 2; ++b) {
      CHECK(at::equal(cache.layer(l, b).k, other.layer(l, b).k));
      CHECK(at::equal(cache.layer(l, b).v, other.layer(l, b).v));
    }
  CHECK(refused([&] { back.check_all_read(); }).empty());
  CHECK_THAT(refused([&] { narrow.load(back); }), ContainsSubstring("kv/0/0/k"));
}

TEST_CASE("residuals come back for every chunk and branch") {
  ResidualCache cache(1), other(1);
  const at::Tensor embedded = at::rand({6, 4});
  for (int c : {0, 3})
    for (int b = 0; b < 2; ++b) cache.merge(c, b, embedded, Decision{}, at::rand({6, 4}), 2, 3, 0.5);
  State state;
  cache.save(state);
  other.load(reread(state), layout_of(3));
  const Decision reuse{.tokens = TokenSet::none()};
  for (int c : {0, 3})
    for (int b = 0; b < 2; ++b)
      CHECK(at::equal(cache.merge(c, b, embedded, reuse, {}, 2, 3, 0.5), other.merge(c, b, embedded, reuse, {}, 2, 3, 0.5)));
  State odd;
  odd.put_integers("residual/keys", {1});
  CHECK_THAT(refused([&] { other.load(odd, layout_of(3)); }), ContainsSubstring("pairs"));
}

TEST_CASE("residuals to predict from come back with their noise levels") {
  ResidualCache cache(2), other(2);
  const at::Tensor embedded = at::rand({6, 4});
  for (double level : {0.9, 0.8}) cache.merge(0, 1, embedded, Decision{}, at::rand({6, 4}), 2, 3, level);
  State state;
  cache.save(state);
  other.load(reread(state), layout_of(3));
  Decision predict{.tokens = TokenSet::none()};
  predict.rest = Rest::predict;
  const at::Tensor wanted = cache.merge(0, 1, embedded, predict, {}, 2, 3, 0.75);
  CHECK(at::equal(other.merge(0, 1, embedded, predict, {}, 2, 3, 0.75), wanted));
  predict.rest = Rest::reuse;
  CHECK_FALSE(at::equal(other.merge(0, 1, embedded, predict, {}, 2, 3, 0.75), wanted));
}

TEST_CASE("motioncache decides the same after a resume at any step") {
  constexpr int kSteps = 30;
  constexpr int64_t kFrames = 3, kPlane = 8;
  const MotionCacheSettings settings{.threshold = 0.1, .warmup = 2, .phase1 = 2, .min_ratio = 0.1};
  const std::vector<double> distance(kSteps, 0.04);
  std::vector<at::Tensor> hidden;
  for (int i = 0; i < kSteps * 4; ++i) hidden.push_back(at::rand({kFrames, kPlane, 4}));
  const auto step = [&](MotionCache& policy, int s) {
    std::string decisions;
    for (int chunk = 0; chunk < 2; ++chunk) {
      const StepContext context{0, chunk, s, kSteps, kFrames, kPlane, false};
      for (const Decision& d : policy.decide(context)) {
        decisions += fmt::format("{} {}:", static_cast<int>(d.phase), d.tokens.count(kFrames, kPlane));
        const at::Tensor tokens = d.tokens.indices(kFrames, kPlane, at::kCPU);
        for (int64_t i = 0; i < tokens.size(0); ++i) decisions += fmt::format(" {}", tokens[i].item<int64_t>());
      }
      for (int b = 0; b < 2; ++b) policy.observe(context, b, hidden[4 * s + 2 * chunk + b]);
    }
    return decisions;
  };
  MotionCache whole(settings, distance, 2);
  whole.begin_window(0);
  std::vector<std::string> expected;
  for (int s = 0; s < kSteps; ++s) expected.push_back(step(whole, s));
  CHECK(std::set<std::string>(expected.begin(), expected.end()).size() > 5);
  for (int cut = 0; cut < kSteps; ++cut) {
    MotionCache before(settings, distance, 2), after(settings, distance, 2);
    before.begin_window(0);
    for (int s = 0; s < cut; ++s) step(before, s);
    State state;
    before.save(state);
    after.begin_window(0);
    const State back = reread(state);
    after.load(back, layout_of(kPlane, kFrames));
    CHECK(refused([&] { back.check_all_read(); }).empty());
    for (int s = cut; s < kSteps; ++s) {
      INFO("cut " << cut << " step " << s);
      CHECK(step(after, s) == expected[s]);
    }
  }
}
