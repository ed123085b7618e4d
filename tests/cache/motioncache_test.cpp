#include "cache/motioncache.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>

#include "cache/step_distance.h"
#include "tests/catch.h"

using namespace longtake;

namespace {

constexpr int64_t kFrames = 5, kPlane = 24, kDim = 8;
constexpr int kSteps = 50;

struct Step {
  int computed;  // tokens, branch 0
  int computed_uncond;
  Phase phase;
  std::vector<Decision> decisions;
};

// Runs one chunk through all steps; `hidden(step, branch)` is what the model would have produced.
std::vector<Step> run(MotionCache& policy, int chunk, const std::function<at::Tensor(int, int)>& hidden) {
  std::vector<Step> steps;
  for (int s = 0; s < kSteps; ++s) {
    const StepContext context{0, chunk, s, kSteps, kFrames, kPlane, false};
    const auto d = policy.decide(context);
    steps.push_back({static_cast<int>(d[0].tokens.count(kFrames, kPlane)),
                     static_cast<int>(d[1].tokens.count(kFrames, kPlane)), d[0].phase, d});
    for (int b = 0; b < 2; ++b) policy.observe(context, b, hidden(s, b));
  }
  return steps;
}

at::Tensor moving(int step, int branch) {
  at::Tensor h = at::zeros({kFrames, kPlane, kDim}) + 1.0;
  // A few columns change from frame to frame, more or less with the branch and step.
  for (int64_t f = 0; f < kFrames; ++f)
    for (int64_t p = 0; p < 18; ++p) h[f][p] += 0.2 * static_cast<double>(p * f) * (1 + 0.3 * branch) + 0.01 * step;
  return h;
}

const std::vector<double> kDistance(kSteps, 0.04);
constexpr int kAll = kFrames * kPlane;

}  // namespace

TEST_CASE("warm-up, whole-chunk updates, then columns") {
  MotionCache policy({}, kDistance, 2);
  const auto steps = run(policy, 0, moving);
  for (int s = 0; s <= 4; ++s) CHECK(steps[s].computed == kAll);
  // 0.04 a step reaches 0.1 every third step: six whole updates at steps 7, 10, ..., 22.
  for (int s = 5; s <= 22; ++s) CHECK(steps[s].computed == ((s - 4) % 3 == 0 ? kAll : 0));
  for (int s = 5; s <= 22; ++s) CHECK(steps[s].phase == Phase::chunk);
  bool partial = false;
  for (int s = 23; s < kSteps - 1; ++s) {
    CHECK(steps[s].phase == Phase::token);
    CHECK(steps[s].computed % kFrames == 0);  // whole columns
    CHECK((steps[s].computed == 0 || steps[s].computed >= 0.4 * kAll));
    partial |= steps[s].computed > 0 && steps[s].computed < kAll;
    CHECK(steps[s].computed == steps[s].computed_uncond);  // one mask for both branches
  }
  CHECK(partial);
  CHECK(steps[kSteps - 1].computed == kAll);  // the last step is always computed
  CHECK(steps[kSteps - 1].phase == Phase::full);
}

TEST_CASE("phase-1 decisions are the same in both branches, all chunks, and in the preview") {
  MotionCacheSettings settings;
  settings.shared_mask = false;
  MotionCache policy(settings, kDistance, 2);
  const std::string preview = policy.preview(kSteps);
  for (int chunk : {0, 1, 4}) {
    const auto steps = run(policy, chunk, moving);
    for (int s = 0; s < kSteps; ++s) {
      if (preview[s] == 'T') continue;
      CHECK(steps[s].computed == steps[s].computed_uncond);
      CHECK(steps[s].computed == (preview[s] == 'F' ? kAll : 0));
    }
  }
  CHECK(preview.substr(0, 8) == "FFFFFRRF");
  CHECK(preview[23] == 'T');
}

TEST_CASE("a threshold of zero computes everything") {
  MotionCacheSettings settings;
  settings.threshold = 0;
  MotionCache policy(settings, kDistance, 2);
  for (const auto& step : run(policy, 0, moving)) CHECK(step.computed == kAll);
}

TEST_CASE("with a floor of one, tokens decide like their chunk") {
  MotionCacheSettings settings;
  settings.floor = 1;
  settings.vote = false;
  settings.min_ratio = 0;
  MotionCache tokens(settings, kDistance, 2);
  settings.phase1 = 1000;
  MotionCache chunks(settings, kDistance, 2);
  const auto a = run(tokens, 0, moving), b = run(chunks, 0, moving);
  for (int s = 0; s < kSteps; ++s) CHECK(a[s].computed == b[s].computed);
}

TEST_CASE("without phase 1, tokens decide right after the warm-up") {
  MotionCacheSettings settings;
  settings.phase1 = 0;
  MotionCache policy(settings, kDistance, 2);
  CHECK(run(policy, 0, moving)[5].phase == Phase::token);
  CHECK(policy.preview(kSteps)[5] == 'T');
}

TEST_CASE("parity keeps two masks and may skip the last step") {
  MotionCacheSettings settings;
  settings.shared_mask = settings.last_step = settings.fresh_reference = false;
  settings.vote = false;
  settings.min_ratio = 0;
  settings.phase1 = 1;
  MotionCache policy(settings, kDistance, 2);
  const auto steps = run(policy, 0, [](int step, int branch) {
    at::Tensor h = at::rand({kFrames, kPlane, kDim}, at::TensorOptions().dtype(at::kFloat)) + branch;
    return h + step;
  });
  bool differ = false;
  for (const auto& step : steps)
    differ |= !at::equal(step.decisions[0].tokens.indices(kFrames, kPlane, at::kCPU),
                         step.decisions[1].tokens.indices(kFrames, kPlane, at::kCPU));
  CHECK(differ);
  CHECK(steps[kSteps - 1].phase == Phase::token);
}

TEST_CASE("the first frame is compared with the chunk before it, the prefix included") {
  // Chunk 1's first frame equals the prefix's last one except in the column 0, so only that column weighs more there.
  for (const bool fresh : {true, false}) {
    MotionCacheSettings settings;
    settings.fresh_reference = fresh;
    settings.vote = false;
    settings.min_ratio = 0;
    settings.floor = 0;
    settings.phase1 = 1;
    MotionCache policy(settings, kDistance, 2);
    policy.begin_window(1);
    const StepContext prefix{1, 0, kSteps, kSteps, kFrames, kPlane, true};
    CHECK(policy.decide(prefix)[0].tokens.is_all());
    const at::Tensor still = at::zeros({kFrames, kPlane, kDim}) + 1.0;
    for (int b = 0; b < 2; ++b) policy.observe(prefix, b, still);
    const auto steps = run(policy, 1, [&](int, int) {
      at::Tensor h = still.clone();
      h.select(1, 0) += 1.0;  // all frames of column 0, so later frames do not change
      return h;
    });
    int64_t partial = 0;
    for (const auto& step : steps)
      if (step.phase == Phase::token && step.computed > 0 && step.computed < kAll) partial = step.computed;
    // With the prefix as reference one token of frame 0 stands out; without it, frame 0 has no reference and no token does.
    CHECK(partial == (fresh ? 1 : 0));
  }
}

TEST_CASE("the step distance is monotone by default and the reference's polynomial on request") {
  auto near = [](double a, double b) { return std::abs(a - b) < 1e-3; };
  CHECK(near(kWan1_3B(0), -0.0499875664));
  CHECK(near(kWan1_3B(0.0793), 0.2536));
  CHECK(kWan1_3B(0.11) < 0);
  CHECK(kWan1_3B.monotone(0.0) == 0);
  CHECK(near(kWan1_3B.monotone(0.05), kWan1_3B(0.05)));
  CHECK(near(kWan1_3B.monotone(0.5), 0.2536));
  const std::vector<double> t{3, 2, 1};
  const auto change = relative_step_change(t, [](double x) { return at::zeros({4}) + x; });
  CHECK(change[0] == 0);
  CHECK(near(change[1], 1.0 / 3));
  CHECK(near(change[2], 0.5));
}
