#include "runtime/calibration_report.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/runtime/tiny_run.h"

using namespace longtake;

namespace {

std::vector<StepSample> samples_of(const std::function<double(double)>& truth) {
  std::vector<StepSample> samples;
  for (int i = 1; i <= 40; ++i) samples.push_back({.step = i, .change = 0.005 * i, .residual = truth(0.005 * i), .change_ndcg = {}});
  return samples;
}

}  // namespace

TEST_CASE("ranking gains are those of the definition") {
  const at::Tensor gain = at::tensor({3.0, 1.0, 2.0});
  // Order 3, 2, 1 is best: 3 + 2/log2(3) + 1/2.
  const double best = 3 + 2 / std::log2(3.0) + 0.5;
  CHECK(std::abs(ndcg(at::tensor({9.0, 1.0, 5.0}), gain) - 1) < 1e-12);
  CHECK(std::abs(ndcg(at::tensor({1.0, 9.0, 5.0}), gain) - (1 + 2 / std::log2(3.0) + 1.5) / best) < 1e-12);
  CHECK(std::abs(random_ndcg(gain) - 2 * (1 + 1 / std::log2(3.0) + 0.5) / best) < 1e-12);
  CHECK(ndcg(gain, at::tensor({0.0, 0.0, 0.0})) == 1);
}

TEST_CASE("the fit finds a polynomial again, and where it does not fall") {
  const DistancePolynomial truth{{0, 0, -5, 1.5, 0.01}};  // rises up to 0.15
  const auto samples = samples_of(truth);
  const DistanceFit fit = fit_distance(samples);
  CHECK(fit.r2 > 0.999999);
  for (const StepSample& s : samples) CHECK(std::abs(fit.polynomial(s.change) - s.residual) < 1e-6);
  CHECK(std::abs(fit.monotone_to - 0.15) < 2e-3);
  CHECK(fit.monotone_from == fit.low);
  CHECK(explained(samples, [&](double r) { return 7 * truth(r); }) > 0.999999);  // proportions matter, scale does not
  CHECK(explained(samples, [](double) { return 1.0; }) < 1e-9);
  CHECK_THROWS_WITH(fit_distance(std::span(samples).first(2)), Catch::Matchers::ContainsSubstring("more --steps"));
  const DistanceFit flat = fit_distance(std::vector<StepSample>(5, samples[3]));  // one change only: a constant
  CHECK(std::abs(flat.polynomial(samples[3].change) - samples[3].residual) < 1e-9);
}

TEST_CASE("fitted polynomials go through the text of a policy") {
  const DistancePolynomial polynomial{{-48.374, 38.33, -6.3, 1.0625, 0.02}};
  const auto again = parse_polynomial(to_text(polynomial));
  REQUIRE(again);
  CHECK(again->coefficients == polynomial.coefficients);
  for (const char* bad : {"", "1/2/3/4", "1/2/3/4/5/6", "1/2/x/4/5", "1/2/3/4/", "1/2/3/4/inf", "nan/0/0/0/0"}) CHECK_FALSE(parse_polynomial(bad));
  const PolicyChoice choice = choose_policy(parse_policy("motioncache:distance=0/0/0/2/0"), false);
  const StepModel model{[](double t) { return at::tensor({t}); }, DistanceRule::linear, 1};
  CHECK(std::abs(distance_rule(choice, model)(0.25) - 0.5) < 1e-9);
}

TEST_CASE("the reference's polynomial is out of its range where it is negative or past its maximum") {
  const RangeCheck check = check_range(kWan1_3B, std::vector<double>{0.001, 0.004, 0.01, 0.05, 0.079, 0.11});
  CHECK(check.steps == 6);
  CHECK(check.negative == 3);  // 0.001, 0.004 and 0.11
  CHECK(check.beyond == 1);
}

TEST_CASE("the smallest threshold that saves enough is suggested") {
  std::vector<Shadow> shadows;
  for (const auto& [threshold, share] : {std::pair{0.1, 0.9}, {0.2, 0.5}, {0.4, 0.3}}) shadows.push_back({"x", threshold, nullptr, share, 1});
  CHECK(suggest_threshold(shadows, "x", 0.5).threshold == 0.2);
  CHECK(suggest_threshold(shadows, "x", 0.45).threshold == 0.4);
  const Suggestion none = suggest_threshold(shadows, "x", 0.1);
  CHECK_FALSE(none.reached);
  CHECK(none.threshold == 0.4);
}

TEST_CASE("a calibration run computes everything, and its shadows see what the policies would see") {
  const TinyModel model;
  const TinyRun plain = tiny_run(model, "causal");
  const std::string policy = "flowcache:threshold=2,warmup=1,distance=linear";
  const TinyRun flow = tiny_run(model, policy);
  std::vector<Shadow> shadows;
  shadows.push_back({"flowcache", 2, tiny_policy(model, choose_policy(parse_policy(policy), false))});
  Calibration calibration(std::vector<double>(TinyGeometry{}.steps, 0.1), std::move(shadows), 2);
  DenoiseHooks hooks;
  hooks.on_hidden = [&](const StepContext& context, int branch, const at::Tensor& hidden, const at::Tensor& embedded) {
    calibration.measure(context, branch, hidden, embedded);
  };
  const TinyRun run = tiny_run(model, calibration, AttentionScheme::causal, {}, {}, hooks);
  CHECK(at::equal(run.latents, plain.latents));
  // flowcache decides by the schedule alone, so its shadow recomputes just what it does; prefixes are no decision.
  const WorkCount all = flow.stats.total();
  CHECK(calibration.shadows()[0].share() > 0);
  CHECK(calibration.shadows()[0].share() < 1);
  CHECK(std::abs(calibration.shadows()[0].tokens - calibration.shadows()[0].recomputed - static_cast<double>(all.reused)) < 0.5);
  REQUIRE_FALSE(calibration.samples().empty());
  for (const StepSample& s : calibration.samples()) {
    CHECK(s.residual > 0);
    CHECK((s.ndcg > 0 && s.ndcg <= 1 + 1e-9));
    CHECK(s.change_ndcg.has_value() == (s.step > 1));
  }
}
