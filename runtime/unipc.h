// Flow-matching UniPC: order 2, B(h) = expm1(h) ("bh2"), predicting the clean sample, first order at the first and last
// step.
//
// SkyReels-V2's solver (reference: skyreels_v2_infer/scheduler/fm_solvers_unipc.py). The sigma grid is the reference's:
// float32(0.999) down to 0 in S equal parts, 0 left out, then shifted. All scalars are float32, computed once on the
// host; the state of every chunk is a small value type that the run owns, so that it can be saved and restored.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string>
#include <vector>

#include "cache/state.h"

namespace longtake {

// sigma_0..sigma_{S-1}, then 0; float32 values. Throws (usage) unless 1 <= steps <= 1000 and shift > 0.
std::vector<float> flow_sigmas(int steps, double shift);

// tau_1..tau_S: sigma * 1000 truncated, what the model is told. Same conditions.
std::vector<int> flow_timesteps(int steps, double shift);

// What one chunk carries from step to step. A default-constructed state starts at step 0.
struct UniPcState {
  int step = 0;       // solver steps done
  at::Tensor m1, m2;  // clean-sample predictions of the last step and the one before; undefined until there are any
  at::Tensor last;    // the (corrected) sample that the last step started from

  // Under "PREFIX/step", ".../m1" and so on; `sizes` are the sample's.
  void save(State& state, const std::string& prefix) const;
  void load(const State& state, const std::string& prefix, int steps, at::IntArrayRef sizes, const at::Device& device);
};

// One chunk of a row, for UniPc::advance. Velocities are float32, dense and of the sample's shape.
struct GuidedChunk {
  UniPcState* state = nullptr;
  at::Tensor cond, uncond;  // uncond undefined: no guidance
  at::Tensor sample;        // [C, F, h, w] float32, whose channels may lie apart; becomes the sample at the next sigma
};

class UniPc {
 public:
  UniPc(int steps, double shift);

  int steps() const { return static_cast<int>(coefficients_.size()); }
  const std::vector<float>& sigmas() const { return sigmas_; }
  const std::vector<int>& timesteps() const { return timesteps_; }

  // Advances `state` and returns the sample at the next sigma. velocity (any float dtype) and sample (float32) share
  // shape and device; the result is float32. After the last step it is the clean prediction. Inputs are not modified.
  at::Tensor step(UniPcState& state, const at::Tensor& velocity, const at::Tensor& sample) const;

  // Guidance, uncond + guidance * (cond - uncond), and a step, of every chunk and in place. On CUDA all of it is one kernel
  // (runtime/cuda/guided_steps.cu) that gives the same bits as tensor operations do there.
  void advance(std::span<const GuidedChunk> chunks, double guidance) const;
  // The same in plain ATen on any device: what tests compare with.
  void advance_by_operations(std::span<const GuidedChunk> chunks, double guidance) const;

 private:
  // new = ratio * x - scale * (m + past * (difference of older predictions) / r + now * (difference of newer ones)).
  struct Update {
    float ratio = 0, scale = 0, r = 0, past = 0, now = 0;
    bool second_order = false;  // past and r are in use
  };
  struct Coefficients {
    float sigma = 0;
    Update corrector, predictor;
  };

  const Coefficients& check(const UniPcState& state) const;

  std::vector<float> sigmas_;
  std::vector<int> timesteps_;
  std::vector<Coefficients> coefficients_;
};

}  // namespace longtake
