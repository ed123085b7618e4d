#include "tools/train/noise_plan.h"

#include <cmath>

namespace longtake::train {
namespace {

constexpr double kLastShare = 0.02;  // where the last of 50 steps is evaluated: what a finished chunk's cached keys have seen

double shifted(double s, double shift) { return shift * s / (1 + (shift - 1) * s); }

}  // namespace

NoisePlan plan_noise(int chunks, bool causal, const NoiseOptions& options, demo::Random& random) {
  NoisePlan plan;
  plan.causal = causal;
  plan.sigma.resize(chunks), plan.timestep.resize(chunks), plan.learn.assign(chunks, true);
  const bool given = chunks > 1 && random.uniform() < options.clean_share;
  const int first = given ? 1 : 0, kind = random.below(3);
  const double common = random.uniform(0.001, 0.999), stagger = random.uniform(0.05, 0.35);
  // The first chunk of a staggered window is anywhere between its first step and as far done as lets the last chunk begin.
  const double ahead = random.uniform(0, 1 + stagger * (chunks - 1 - first));
  for (int i = first; i < chunks; ++i) {
    double s = common;
    if (kind == 1) s = random.uniform(0.001, 0.999);
    if (kind == 2) s = 1 - (ahead - stagger * (i - first));
    if (s >= 1) plan.learn[i] = false;  // not begun: pure noise, seen by others only where all look at all
    s = std::clamp(s, kLastShare, 0.999);
    plan.sigma[i] = shifted(s, options.shift);
  }
  if (given) {
    plan.start = demo::Start::anywhere;
    plan.sigma[0] = random.uniform() < 0.5 ? 0 : 0.02;
    plan.learn[0] = false;
  }
  if (chunks == 1) plan.learn[0] = true;
  for (int i = 0; i < chunks; ++i) plan.timestep[i] = std::floor(1000 * plan.sigma[i]);
  return plan;
}

}  // namespace longtake::train
