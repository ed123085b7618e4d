// Denoising runs of the tiny model without a VAE: two windows, the second with a prefix, four chunks each.
#pragma once

#include <ATen/ops/cat.h>

#include "runtime/denoise.h"
#include "runtime/policies.h"
#include "tests/runtime/tiny_model.h"

namespace longtake {

struct TinyRun {
  at::Tensor latents;  // of both windows, one behind the other
  RunStats stats;
  std::vector<DecisionRecord> decisions;
};

struct TinyGeometry {
  int64_t height = 4, width = 6;  // latent pixels
  std::vector<int64_t> frames{2, 2, 2, 1};  // of the chunks
  int steps = 8, windows = 2;
};

inline WindowGeometry window_of(const TinyGeometry& g) {
  WindowGeometry window{.chunks = {}, .latent_height = g.height, .latent_width = g.width};
  for (int64_t frames : g.frames) window.chunks.push_back({window.frames(), frames});
  return window;
}

inline std::unique_ptr<CachePolicy> tiny_policy(const TinyModel& model, const PolicyChoice& choice, const TinyGeometry& g = {}) {
  const std::shared_ptr<Backbone> backbone = model.backbone(window_of(g));
  const StepModel steps{[backbone](double t) { return backbone->step_embedding(t); }, DistanceRule::polynomial, model.config.dim};
  return make_policy(choice, flow_timesteps(g.steps, 8), steps, 2);
}

inline TinyRun tiny_run(const TinyModel& model, CachePolicy& policy, AttentionScheme attention, const TinyGeometry& g = {},
                        const DenoiseSettings& more = {}, DenoiseHooks hooks = {}) {
  const WindowGeometry geometry = window_of(g);
  const auto backbone = model.backbone(geometry);
  const UniPc solver(g.steps, 8);
  DenoiseSettings settings = more;
  settings.attention = attention;
  settings.prefix_noise = 20;
  TinyRun run;
  hooks.on_decision = [&](const DecisionRecord& record) { run.decisions.push_back(record); };
  PhiloxNoise noise(5);
  std::vector<at::Tensor> all;
  for (int window = 0; window < g.windows; ++window) {
    const int ready = window == 0 ? 0 : 1;
    const Schedule schedule(flow_timesteps(g.steps, 8), static_cast<int>(g.frames.size()), ready, 2);
    at::Tensor latents = noise.latents(window, {16, geometry.frames(), g.height, g.width});
    if (ready > 0) latents.narrow(1, 0, g.frames[0]).copy_(all.back().narrow(1, all.back().size(1) - g.frames[0], g.frames[0]));
    all.push_back(denoise_window(*backbone, policy, schedule, solver, settings, window, latents, noise, run.stats, hooks));
  }
  run.latents = at::cat(all, 1);
  return run;
}

inline TinyRun tiny_run(const TinyModel& model, const std::string& policy_text, const TinyGeometry& g = {}) {
  const PolicyChoice choice = choose_policy(parse_policy(policy_text), false);
  return tiny_run(model, *tiny_policy(model, choice, g), choice.attention, g);
}

// Settings with which every policy both computes and saves on the tiny model.
inline const std::vector<std::string> kSavingPolicies{
    "motioncache:slow,warmup=1,phase1=1,distance=linear,threshold=0.6", "motioncache:slow,warmup=1,phase1=0,distance=linear,threshold=0.6,vote=off,min_ratio=0",
    "flowcache:warmup=1,distance=linear,threshold=2", "driftcache:warmup=1,distance=linear,threshold=1,unit=token,min_ratio=0", "motioncache:warmup=1,phase1=1,distance=linear,threshold=0.6",
    "predict:warmup=1,phase1=1,distance=linear,threshold=0.6", "teacache:base=causal,ret=2,distance=linear,threshold=0.6",
    "teacache:ret=2,distance=linear,threshold=0.6"};

}  // namespace longtake
