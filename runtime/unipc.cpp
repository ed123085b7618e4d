#include "runtime/unipc.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "base/cuda.h"
#include "base/error.h"
#include "runtime/cuda/guided_steps.cuh"

namespace longtake {
namespace {

// The grid in double, before rounding: timesteps are truncated from these values.
std::vector<double> shifted_grid(int steps, double shift) {
  if (steps < 1 || steps > 1000) fail_usage("the number of denoising steps must be between 1 and 1000, got {}", steps);
  if (!(shift > 0) || !std::isfinite(shift)) fail_usage("the timestep shift must be greater than 0, got {}", shift);
  const double start = static_cast<double>(0.999f);
  const double stride = -start / steps;
  std::vector<double> sigmas(steps);
  for (int k = 0; k < steps; ++k) {
    const double s = k * stride + start;
    sigmas[k] = shift * s / (1 + (shift - 1) * s);
  }
  return sigmas;
}

}  // namespace

std::vector<float> flow_sigmas(int steps, double shift) {
  const auto grid = shifted_grid(steps, shift);
  std::vector<float> sigmas(grid.begin(), grid.end());
  sigmas.push_back(0);
  return sigmas;
}

std::vector<int> flow_timesteps(int steps, double shift) {
  std::vector<int> timesteps;
  for (double sigma : shifted_grid(steps, shift)) timesteps.push_back(static_cast<int>(sigma * 1000));
  return timesteps;
}

void UniPcState::save(State& state, const std::string& prefix) const {
  state.put_integers(prefix + "/step", {step});
  state.put(prefix + "/m1", m1);
  state.put(prefix + "/m2", m2);
  state.put(prefix + "/last", last);
}

void UniPcState::load(const State& state, const std::string& prefix, int steps, at::IntArrayRef sizes, const at::Device& device) {
  if (const int64_t found = state.integers(prefix + "/step", 1)[0]; found != steps)
    state.refuse(fmt::format("'{}/step' should be {}, found {}", prefix, steps, found));
  step = steps;
  const auto tensor = [&](const char* name, bool there) {
    return there ? state.get(fmt::format("{}/{}", prefix, name), sizes, at::kFloat).to(device) : at::Tensor();
  };
  m1 = tensor("m1", steps > 0);
  m2 = tensor("m2", steps > 1);
  last = tensor("last", steps > 0);
}

UniPc::UniPc(int steps, double shift)
    : sigmas_(flow_sigmas(steps, shift)), timesteps_(flow_timesteps(steps, shift)), coefficients_(steps) {
  auto alpha = [&](int k) { return 1 - sigmas_[k]; };
  auto lambda = [&](int k) { return std::log(alpha(k)) - std::log(sigmas_[k]); };
  auto order = [&](int k) { return std::min({2, steps - k, k + 1}); };

  for (int k = 0; k < steps; ++k) {
    Coefficients& c = coefficients_[k];
    c.sigma = sigmas_[k];
    if (k > 0) {
      const float h = lambda(k) - lambda(k - 1);
      const float b = std::expm1(-h);
      c.corrector.ratio = sigmas_[k] / sigmas_[k - 1];
      c.corrector.scale = alpha(k) * b;
      c.corrector.now = 0.5f;
      if (order(k - 1) == 2) {
        // [[1, 1], [r, 1]] rho = [b1, b2], solved in closed form.
        const float r = (lambda(k - 2) - lambda(k - 1)) / h;
        const float phi1 = b / -h - 1, phi2 = phi1 / -h - 0.5f;
        const float b1 = phi1 / b, b2 = 2 * phi2 / b;
        c.corrector.second_order = true;
        c.corrector.r = r;
        c.corrector.past = (b1 - b2) / (1 - r);
        c.corrector.now = b1 - c.corrector.past;
      }
    }
    if (k + 1 < steps) {  // the last step's sigma is 0: its result is the clean prediction itself
      const float h = lambda(k + 1) - lambda(k);
      c.predictor.ratio = sigmas_[k + 1] / sigmas_[k];
      c.predictor.scale = alpha(k + 1) * std::expm1(-h);
      if (order(k) == 2) {
        c.predictor.second_order = true;
        c.predictor.r = (lambda(k - 1) - lambda(k)) / h;
        c.predictor.past = 0.5f;
      }
    }
  }
}

const UniPc::Coefficients& UniPc::check(const UniPcState& state) const {
  LONGTAKE_CHECK(state.step >= 0 && state.step < steps(), "step {} of a solver with {} steps", state.step, steps());
  const Coefficients& c = coefficients_[state.step];
  LONGTAKE_CHECK(state.step == 0 || (state.m1.defined() && state.last.defined() && (!c.corrector.second_order || state.m2.defined())),
                 "the solver state lacks the tensors of step {}", state.step - 1);
  return c;
}

at::Tensor UniPc::step(UniPcState& state, const at::Tensor& velocity, const at::Tensor& sample) const {
  const Coefficients& c = check(state);
  LONGTAKE_CHECK(sample.scalar_type() == at::kFloat && at::isFloatingType(velocity.scalar_type()),
                 "expected a float32 sample and a floating velocity");
  LONGTAKE_CHECK(velocity.sizes() == sample.sizes() && velocity.device() == sample.device(),
                 "velocity and sample differ in shape or device");
  const at::Tensor m = sample - velocity.to(at::kFloat) * c.sigma;

  at::Tensor x;
  if (state.step == 0) {
    x = sample.clone();  // the caller may overwrite its sample in place
  } else {
    const Update& u = c.corrector;
    at::Tensor change = (m - state.m1) * u.now;
    if (u.second_order) change = (state.m2 - state.m1) * (u.past / u.r) + change;
    x = state.last * u.ratio - state.m1 * u.scale - change * u.scale;
  }

  at::Tensor next = m;
  if (state.step + 1 < steps()) {
    const Update& u = c.predictor;
    next = x * u.ratio - m * u.scale;
    if (u.second_order) next = next - (state.m1 - m) * (u.scale * u.past / u.r);
  }
  state.m2 = state.m1;
  state.m1 = m;
  state.last = x;
  ++state.step;
  return next;
}

void UniPc::advance_by_operations(std::span<const GuidedChunk> chunks, double guidance) const {
  for (const GuidedChunk& chunk : chunks) {
    at::Tensor velocity = chunk.cond;
    if (chunk.uncond.defined()) velocity = chunk.uncond + (velocity - chunk.uncond) * guidance;
    chunk.sample.copy_(step(*chunk.state, velocity, chunk.sample));
  }
}

void UniPc::advance(std::span<const GuidedChunk> chunks, double guidance) const {
  const auto fits = [](const at::Tensor& x, const at::Tensor& sample) {
    return !x.defined() || (x.is_contiguous() && x.scalar_type() == at::kFloat && x.sizes() == sample.sizes() && x.device() == sample.device());
  };
  const bool kernel = std::all_of(chunks.begin(), chunks.end(), [&](const GuidedChunk& c) {
    return cuda::runs_kernels(c.sample) && c.sample.dim() == 4 && c.sample.scalar_type() == at::kFloat && c.sample[0].is_contiguous() &&
           c.cond.defined() && fits(c.cond, c.sample) && fits(c.uncond, c.sample) && fits(c.state->m1, c.sample) && fits(c.state->m2, c.sample) &&
           fits(c.state->last, c.sample);
  });
  if (!kernel) return advance_by_operations(chunks, guidance);
  const auto pointer = [](const at::Tensor& x) { return x.defined() ? x.const_data_ptr<float>() : nullptr; };
  const auto update = [](const Update& u, float past) { return cuda::SolverUpdate{u.ratio, u.scale, u.second_order ? past : 0, u.now, u.second_order}; };
  for (size_t begin = 0; begin < chunks.size(); begin += cuda::kGuidedSteps) {
    cuda::GuidedSteps p;
    std::vector<UniPcState> before;  // what the kernel reads must not be given to a later chunk's tensors
    p.guidance = static_cast<float>(guidance);
    for (size_t i = begin; i < std::min(chunks.size(), begin + cuda::kGuidedSteps); ++i) {
      const GuidedChunk& chunk = chunks[i];
      UniPcState& state = *chunk.state;
      const Coefficients& c = check(state);
      const at::Tensor m = at::empty(chunk.sample.sizes(), chunk.cond.options()), x = at::empty_like(m);
      before.push_back(state);
      cuda::GuidedStep& s = p.step[p.count++];
      s.cond = pointer(chunk.cond), s.uncond = pointer(chunk.uncond);
      s.sample = chunk.sample.data_ptr<float>(), s.sample_stride = chunk.sample.stride(0);
      s.m1 = pointer(state.m1), s.m2 = pointer(state.m2), s.last = pointer(state.last);
      s.m = m.data_ptr<float>(), s.x = x.data_ptr<float>();
      s.channels = chunk.sample.size(0), s.inner = chunk.sample[0].numel();
      s.sigma = c.sigma, s.corrects = state.step > 0, s.predicts = state.step + 1 < steps();
      s.corrector = update(c.corrector, c.corrector.past / c.corrector.r);
      s.predictor = update(c.predictor, c.predictor.scale * c.predictor.past / c.predictor.r);
      state.m2 = state.m1;
      state.m1 = m;
      state.last = x;
      ++state.step;
    }
    const cuda::Launch launch(chunks[begin].sample, "guided_steps");
    launch.check(cuda::guided_steps(p, launch.stream()));
  }
}

}  // namespace longtake
