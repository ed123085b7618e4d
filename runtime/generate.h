// The generation loop over windows: noise and prefix in, latents denoised, frames decoded and handed out as they come.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

#include "cache/plan.h"
#include "models/backbone.h"
#include "models/wan_vae/wan_vae.h"
#include "runtime/denoise.h"
#include "runtime/run_loop.h"
#include "runtime/windows.h"

namespace longtake {

// What a window takes over from the one before it.
enum class History {
  reencode,  // its last frames through the VAE encoder, as the reference does: the prefix starts with a one-frame latent
  carry      // its last latents as they are: cheaper, no second decode of the overlap
};

inline constexpr int kUsualDecodeLatents = 5;

struct GenerateSettings : RunSettings {
  WindowPlan plan;
  int64_t height = 0, width = 0;  // pixels, multiples of 16
  int64_t latent_channels = 16;
  at::Tensor given;  // [3, n, H, W] in [-1, 1]: the plan's given frames; undefined where there are none
  // Off, the given frames are context alone: on_frames gets what follows them, decoded as their continuation.
  bool show_given = true;
  at::Tensor end_picture;  // [3, 1, H, W] in [-1, 1]: what the last window leads to, where the plan says so
  // Prompts over time: text i holds from frame texts[i] of the plan on, ascending, the first from 0; empty: one text for all.
  std::vector<double> texts;
  int steps = 50;
  double shift = 8.0;
  int ar_step = 5;
  History history = History::reencode;
  int decode_latents = kUsualDecodeLatents;  // latent frames per VAE push: more is faster and takes more memory
  DenoiseSettings denoise;
};

using BackboneFactory = std::function<std::unique_ptr<Backbone>(const WindowGeometry&)>;

// The schedule of one window of the plan.
Schedule window_schedule(const GenerateSettings& settings, const WindowSpan& window);

// The prompt that covers the middle of a chunk, counted as in GenerateSettings::texts; for an end picture, the last one.
int text_of_chunk(const GenerateSettings& settings, const WindowSpan& window, const ChunkSpan& chunk);

// Geometry of one window: its chunks, and its latent size.
WindowGeometry window_geometry(const GenerateSettings& settings, const WindowSpan& window);

// What a plan for such a run must fit.
PlanGeometry plan_geometry(const GenerateSettings& settings);

RunLayout run_layout(const GenerateSettings& settings);

// Runs all windows as run_windows() does (run_loop.h). Everything runs on `device`; the VAE and the backbones must be there.
RunStats generate(const GenerateSettings& settings, const BackboneFactory& make_backbone, const WanVae& vae,
                  CachePolicy& policy, NoiseSource& noise, const at::Device& device, const GenerateHooks& hooks,
                  RunFolder* folder = nullptr);

// Decodes what a folder holds of such a run (decode_kept()); frames go to the hooks.
void decode_folder(const GenerateSettings& settings, const WanVae& vae, const GenerateHooks& hooks, const RunFolder& folder);

}  // namespace longtake
