// The generation loop over windows: noise and prefix in, latents denoised, frames decoded and handed out as they come.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

#include "cache/plan.h"
#include "models/backbone.h"
#include "models/wan_vae/wan_vae.h"
#include "runtime/denoise.h"
#include "runtime/windows.h"

namespace longtake {

// What a window takes over from the one before it.
enum class History {
  reencode,  // its last frames through the VAE encoder, as the reference does: the prefix starts with a one-frame latent
  carry      // its last latents as they are: cheaper, no second decode of the overlap
};

struct GenerateSettings {
  WindowPlan plan;
  int64_t height = 0, width = 0;  // pixels, multiples of 16
  int64_t latent_channels = 16;
  int steps = 50;
  double shift = 8.0;
  int ar_step = 5;
  History history = History::reencode;
  int decode_latents = 5;  // latent frames per VAE push: more is faster and takes more memory
  DenoiseSettings denoise;
};

struct GenerateHooks {
  DenoiseHooks denoise;
  std::function<void(const WindowSpan&, const Schedule&)> on_window_start;
  std::function<void(const WindowSpan&, const at::Tensor& latents)> on_latents;  // clean [C, F, h, w], before decoding
  std::function<void(const at::Tensor& frames)> on_frames;  // new frames only: [3, n, H, W] in [-1, 1], in order
};

using BackboneFactory = std::function<std::unique_ptr<Backbone>(const WindowGeometry&)>;

// The schedule of one window of the plan.
Schedule window_schedule(const GenerateSettings& settings, const WindowSpan& window);

// Geometry of one window: its chunks, and its latent size.
WindowGeometry window_geometry(const GenerateSettings& settings, const WindowSpan& window);

// What a plan for such a run must fit.
PlanGeometry plan_geometry(const GenerateSettings& settings);

// Runs all windows. Everything runs on `device`; the VAE and the backbones must be there.
RunStats generate(const GenerateSettings& settings, const BackboneFactory& make_backbone, const WanVae& vae,
                  CachePolicy& policy, NoiseSource& noise, const at::Device& device, const GenerateHooks& hooks);

}  // namespace longtake
