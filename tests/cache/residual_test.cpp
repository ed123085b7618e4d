#include "cache/residual.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include "tests/catch.h"
#include "tests/devices.h"

using namespace longtake;

namespace {

constexpr int64_t kFrames = 3, kPlane = 4, kDim = 5;

at::Tensor longs(std::vector<int64_t> values) { return at::tensor(values, at::kLong); }

Decision reuse(TokenSet set) { return {.tokens = std::move(set)}; }
Decision predict(TokenSet set, double clip = 1) { return {.tokens = std::move(set), .rest = Rest::predict, .clip = clip}; }

double far(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

}  // namespace

TEST_CASE("residuals rebuild hidden states token by token") {
  for (const auto& device : test_devices()) {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
    ResidualCache residuals(1);
    const auto merge = [&](const at::Tensor& x, const Decision& d, const at::Tensor& fresh = {}) {
      return residuals.merge(0, 0, x, d, fresh, kFrames, kPlane, 0.5);
    };
    const at::Tensor x0 = at::randn({12, kDim}, options), y0 = at::randn({12, kDim}, options);
    CHECK_THROWS(merge(x0, reuse(TokenSet::none())));
    CHECK(at::equal(merge(x0, reuse(TokenSet::all()), y0), y0));
    const at::Tensor x1 = at::randn({12, kDim}, options);
    CHECK(at::equal(merge(x1, reuse(TokenSet::none())), x1 + (y0 - x0)));
    CHECK_THROWS_WITH(merge(x1, predict(TokenSet::none())), Catch::Matchers::ContainsSubstring("two residuals"));
    const at::Tensor fresh = at::randn({6, kDim}, options);
    // How far each recomputed token's residual moved, against the mean size of those it replaces.
    at::Tensor moved;
    ResidualCache other(1);
    other.merge(0, 0, x0, reuse(TokenSet::all()), y0, kFrames, kPlane, 0.5, &moved);
    CHECK_FALSE(moved.defined());
    other.merge(0, 0, x1, reuse(TokenSet::columns(longs({0, 3}).to(device))), fresh, kFrames, kPlane, 0.5, &moved);
    const at::Tensor second = (fresh[1] - x1[3] - (y0[3] - x0[3])).norm() / (y0 - x0).norm(2, 1).mean();
    CHECK(far(moved[3], second) < 1e-5);
    CHECK(moved[1].item<float>() == 0);
    CHECK((moved > 0).sum().item<int64_t>() == 6);
    const at::Tensor mixed = merge(x1, reuse(TokenSet::columns(longs({0, 3}).to(device))), fresh);
    CHECK(at::equal(mixed.index_select(0, longs({0, 3, 4, 7, 8, 11}).to(device)), fresh));
    CHECK(at::equal(mixed[1], (x1 + (y0 - x0))[1]));
    // The recomputed tokens keep their new residual, the others their old one.
    const at::Tensor again = merge(x1, reuse(TokenSet::none()));
    CHECK(at::equal(again[1], mixed[1]));
    CHECK(far(again, mixed) < 1e-6);
  }
}

TEST_CASE("predictions are exact for residuals that are linear in the noise level, at whatever levels tokens were computed") {
  for (const auto& device : test_devices()) {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
    const at::Tensor a = at::randn({12, kDim}, options), b = at::randn({12, kDim}, options), x = at::randn({12, kDim}, options);
    const auto hidden = [&](double level) { return x + a + b * level; };
    ResidualCache residuals(2);
    const auto merge = [&](const Decision& d, double level) {
      const at::Tensor fresh = d.tokens.is_none() ? at::Tensor()
                                                  : hidden(level).index_select(0, d.tokens.indices(kFrames, kPlane, device));
      return residuals.merge(0, 0, x, d, fresh, kFrames, kPlane, level);
    };
    merge(predict(TokenSet::all()), 0.9);
    CHECK(far(merge(predict(TokenSet::none(), 10), 0.85), hidden(0.9)) < 1e-6);  // one value is no line: reused
    merge(predict(TokenSet::all()), 0.8);
    CHECK(far(merge(predict(TokenSet::none(), 10), 0.7), hidden(0.7)) < 1e-5);
    // From here on columns 1 and 2, and then single tokens, stand on other levels than the rest.
    CHECK(far(merge(predict(TokenSet::columns(longs({1, 2})), 10), 0.6), hidden(0.6)) < 1e-5);
    CHECK(far(merge(predict(TokenSet::list(longs({0, 1, 7})), 10), 0.45), hidden(0.45)) < 1e-5);
    CHECK(far(merge(predict(TokenSet::none(), 10), 0.2), hidden(0.2)) < 1e-5);
    // Reuse takes each token's latest value.
    const at::Tensor old = merge(reuse(TokenSet::none()), 0.1);
    CHECK(far(old[7], hidden(0.45)[7]) < 1e-5);
    CHECK(far(old[5], hidden(0.6)[5]) < 1e-5);
    CHECK(far(old[4], hidden(0.8)[4]) < 1e-5);
  }
}

TEST_CASE("a prediction goes no further than its clip") {
  const at::Tensor x = at::randn({12, kDim}), one = x + 1.0, two = x + 3.0;
  ResidualCache residuals(2);
  residuals.merge(0, 0, x, predict(TokenSet::all()), one, kFrames, kPlane, 0.9);
  residuals.merge(0, 0, x, predict(TokenSet::all()), two, kFrames, kPlane, 0.8);
  const auto at_level = [&](double clip, double level) {
    return residuals.merge(0, 0, x, predict(TokenSet::none(), clip), {}, kFrames, kPlane, level);
  };
  CHECK(far(at_level(1, 0.75), x + 4.0) < 1e-5);    // half a gap on
  CHECK(far(at_level(1, 0.4), x + 5.0) < 1e-5);     // four gaps on, held at one
  CHECK(far(at_level(2.5, 0.4), x + 8.0) < 1e-5);   // ... at two and a half
  CHECK(far(at_level(0, 0.4), two) < 1e-6);         // no clip at all is reuse
}
