#include "cache/driftcache.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include "tests/catch.h"

using namespace longtake;

namespace {

constexpr int64_t kFrames = 2, kPlane = 4;
constexpr int kSteps = 14;

// Of a policy that reuses what it does not compute.
DriftCacheSettings reusing(DriftUnit unit, double min_ratio = 0) {
  DriftCacheSettings settings;
  settings.threshold = 0.1, settings.warmup = 1, settings.unit = unit, settings.min_ratio = min_ratio, settings.rest = Rest::reuse;
  return settings;
}

// Tokens whose residuals move at fixed rates, one chunk, one branch unless told otherwise; `power` as errors grow with the distance.
// Returns what was recomputed by step.
std::vector<at::Tensor> simulate(DriftCache& policy, const std::vector<double>& distance, const std::vector<at::Tensor>& rates,
                                 double power = 1) {
  std::vector<at::Tensor> chosen;
  std::vector<at::Tensor> since(rates.size(), at::full({kFrames, kPlane}, 0.0f));
  for (int s = 0; s < kSteps; ++s) {
    const StepContext context{.step = s, .steps = kSteps, .frames = kFrames, .plane = kPlane};
    const auto decisions = policy.decide(context);
    REQUIRE(decisions.size() == rates.size());
    for (size_t b = 0; b < rates.size(); ++b) {
      const at::Tensor mask = decisions[b].tokens.mask(kFrames, kPlane, at::kCPU);
      if (b == 0) chosen.push_back(mask);
      CHECK(at::equal(mask, chosen.back()));  // one choice for both branches
      since[b] = since[b] + distance[static_cast<size_t>(s)];
      if (s > 0) policy.changed(context, static_cast<int>(b), at::where(mask, rates[b] * since[b].pow(power), at::full({kFrames, kPlane}, 0.0f)));
      since[b] = at::where(mask, at::full({kFrames, kPlane}, 0.0f), since[b]);
    }
  }
  return chosen;
}

at::Tensor columns(std::vector<float> values) { return at::tensor(values).view({1, kPlane}).expand({kFrames, kPlane}).contiguous(); }

int times(const std::vector<at::Tensor>& chosen, int64_t frame, int64_t column) {
  int count = 0;
  for (const at::Tensor& mask : chosen) count += mask[frame][column].item<bool>();
  return count;
}

}  // namespace

TEST_CASE("driftcache recomputes a token when its measured rate has carried it to the threshold") {
  const std::vector<double> distance(kSteps, 0.1);
  DriftCache policy(reusing(DriftUnit::token), distance, 1);
  CHECK(policy.residuals() == 1);
  // Drift a step: 0, 0.03, 0.06, 0.2 of the threshold 0.1. Steps 0, 1 and 13 are computed; between lie 11.
  const auto chosen = simulate(policy, distance, {columns({0, 0.3f, 0.6f, 2})});
  CHECK(chosen[0].all().item<bool>());
  CHECK(chosen[1].all().item<bool>());
  CHECK(chosen[kSteps - 1].all().item<bool>());
  CHECK(times(chosen, 0, 0) == 3);           // never drifts
  CHECK(times(chosen, 1, 1) == 3 + 11 / 4);  // every fourth step
  CHECK(times(chosen, 0, 2) == 3 + 11 / 2);
  CHECK(times(chosen, 1, 3) == kSteps);
  CHECK(policy.preview(kSteps) == "FFTTTTTTTTTTTF");
}

TEST_CASE("driftcache predicts, and expects the error of a prediction to grow with the square of the distance") {
  DriftCacheSettings settings = reusing(DriftUnit::token);
  settings.rest = Rest::predict, settings.clip = 0.75;
  const std::vector<double> distance(kSteps, 0.1);
  DriftCache policy(settings, distance, 1);
  CHECK(policy.residuals() == 2);
  // Drift after n steps: 0, 0.012 n^2, 0.03 n^2, 0.2 n^2 of the threshold 0.1.
  const auto chosen = simulate(policy, distance, {columns({0, 1.2f, 3, 20})}, 2);
  CHECK(times(chosen, 0, 0) == 3);
  CHECK(times(chosen, 0, 1) == 3 + 11 / 3);
  CHECK(times(chosen, 0, 2) == 3 + 11 / 2);
  CHECK(times(chosen, 0, 3) == kSteps);
  const Decision decision = DriftCache(settings, distance, 1).decide({.step = 0, .steps = kSteps, .frames = 1, .plane = 1})[0];
  CHECK((decision.rest == Rest::predict && decision.clip == 0.75));
}

TEST_CASE("driftcache decides by the mean drift of columns and chunks, and by the branch that drifts more") {
  const std::vector<double> distance(kSteps, 0.1);
  at::Tensor rates = columns({0, 0, 0, 1});
  rates[0][0] = 1.2f;  // column 0 drifts 0.06 a step in the mean
  DriftCache by_column(reusing(DriftUnit::column), distance, 1);
  auto chosen = simulate(by_column, distance, {rates});
  CHECK(times(chosen, 0, 0) == times(chosen, 1, 0));
  CHECK(times(chosen, 0, 0) == 3 + 11 / 2);
  CHECK(times(chosen, 0, 1) == 3);
  CHECK(times(chosen, 0, 3) == kSteps);
  DriftCache by_chunk(reusing(DriftUnit::chunk), distance, 1);
  for (const at::Tensor& mask : simulate(by_chunk, distance, {rates})) CHECK(mask.all().item<bool>() == mask.any().item<bool>());
  DriftCache both(reusing(DriftUnit::column), distance, 2);
  chosen = simulate(both, distance, {columns({0, 0, 0, 0}), columns({0, 0.3f, 0, 0})});
  CHECK(times(chosen, 0, 0) == 3);
  CHECK(times(chosen, 0, 1) == 3 + 11 / 4);
}

TEST_CASE("driftcache waits until enough tokens have drifted") {
  const std::vector<double> distance(kSteps, 0.1);
  DriftCache policy(reusing(DriftUnit::token, 0.5), distance, 1);
  for (const at::Tensor& mask : simulate(policy, distance, {columns({0, 0.3f, 0.6f, 2})})) {
    const auto count = mask.sum().item<int64_t>();
    CHECK((count == 0 || count >= kFrames * kPlane / 2));
  }
}

TEST_CASE("driftcache computes everything until it has seen a residual change") {
  DriftCacheSettings settings;
  settings.warmup = 1;
  DriftCache policy(settings, std::vector<double>(kSteps, 0.1), 2);
  for (int s = 0; s < 5; ++s) CHECK(policy.decide({.step = s, .steps = kSteps, .frames = 1, .plane = 1})[0].tokens.is_all());
}
