#include "cache/predict.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include "tests/catch.h"

using namespace longtake;

namespace {

constexpr int64_t kFrames = 5, kPlane = 24;
constexpr int kSteps = 50;
const std::vector<double> kDistance(kSteps, 0.04);

at::Tensor hidden(int step) {
  at::Tensor h = at::zeros({kFrames, kPlane, 3}) + 1.0;
  for (int64_t f = 0; f < kFrames; ++f)
    for (int64_t p = 0; p < 18; ++p) h[f][p] += 0.2 * static_cast<double>(p * f) + 0.01 * step;
  return h;
}

std::vector<Decision> run(CachePolicy& policy) {
  std::vector<Decision> decisions;
  for (int s = 0; s < kSteps; ++s) {
    const StepContext context{.step = s, .steps = kSteps, .frames = kFrames, .plane = kPlane};
    decisions.push_back(policy.decide(context)[0]);
    for (int b = 0; b < 2; ++b) policy.observe(context, b, hidden(s));
  }
  return decisions;
}

at::Tensor mask(const Decision& d) { return d.tokens.mask(kFrames, kPlane, at::kCPU); }

}  // namespace

TEST_CASE("predict recomputes what motioncache recomputes and predicts the rest, while no token reaches the limit") {
  PredictSettings settings;
  settings.limit = 1000;
  settings.clip = 1.5;
  Predict predict(settings, kDistance, 2);
  MotionCache motion({}, kDistance, 2);
  const auto a = run(predict), b = run(motion);
  bool partial = false;
  for (int s = 0; s < kSteps; ++s) {
    INFO("step " << s);
    CHECK(at::equal(mask(a[s]), mask(b[s])));
    CHECK(a[s].rest == Rest::predict);
    CHECK(b[s].rest == Rest::reuse);
    CHECK(a[s].clip == 1.5);
    CHECK(a[s].distance == b[s].distance);
    partial |= a[s].tokens.kind() == TokenSet::Kind::columns;
  }
  CHECK(partial);
}

TEST_CASE("no token is predicted more often in a row than the limit") {
  for (const bool vote : {true, false})
    for (const int limit : {1, 2, 4}) {
      PredictSettings settings;
      settings.limit = limit;
      settings.motion.threshold = 0.3;
      settings.motion.vote = vote;
      settings.motion.phase1 = 2;
      Predict predict(settings, kDistance, 2);
      at::Tensor in_a_row = at::zeros({kFrames, kPlane}, at::kInt);
      int64_t longest = 0;
      for (const Decision& d : run(predict)) {
        in_a_row = (in_a_row + 1) * mask(d).logical_not().to(at::kInt);
        longest = std::max(longest, in_a_row.max().item<int64_t>());
        CHECK((!vote || d.tokens.kind() != TokenSet::Kind::list));
      }
      INFO("limit " << limit << " vote " << vote);
      CHECK(longest == limit);
    }
}

TEST_CASE("a limit by hand: whole chunks, and the update counts") {
  PredictSettings settings;
  settings.limit = 2;
  settings.motion.threshold = 0.16 + 1e-4;  // five distances of 0.04: motioncache alone would compute every fifth step
  settings.motion.phase1 = 3;
  Predict predict(settings, kDistance, 2);
  // Steps 5, 6 predicted, 7 at the limit; likewise 10 and 13; then three updates are done.
  CHECK(predict.preview(20) == "FFFFFPPFPPFPPFTTTTTF");
  const auto d = run(predict);
  for (int s = 0; s < 14; ++s) CHECK(d[s].tokens.is_all() == (predict.preview(20)[s] == 'F'));
  CHECK(d[14].phase == Phase::token);
}
