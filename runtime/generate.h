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

inline constexpr int kUsualDecodeLatents = 5;

struct GenerateSettings {
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
  // Decode finished chunks in a thread of its own while later ones denoise: the same bits, sooner. Off, each window is decoded
  // when it is done, so that seconds of denoising and decoding can be told apart.
  bool decode_ahead = false;
  // Run folders only: the largest state that is written within a window, and the share of time that may go into it. A state is
  // passed over at a finished chunk while writing it would take more than that share of the time since the last one.
  int64_t checkpoint_bytes = int64_t{1} << 30;
  double checkpoint_share = 0.005;
  DenoiseSettings denoise;
};

struct GenerateHooks {
  DenoiseHooks denoise;
  std::function<void(const WindowSpan&, const Schedule&)> on_window_start;
  std::function<void(const WindowSpan&, const at::Tensor& latents)> on_latents;  // of a finished window: clean [C, F, h, w]
  std::function<void(const WindowSpan&, int chunk, const at::Tensor& latents)> on_chunk;  // a finished chunk [C, n, h, w]
  // New frames only: [3, n, H, W] in [-1, 1], in order. Called from the decoding thread with decode_ahead.
  std::function<void(const at::Tensor& frames)> on_frames;
  std::function<void(const std::string&)> on_note;  // what the user should know
  std::function<bool()> should_stop;                // asked between rows: true ends the run with an Error (interrupted)
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

class RunFolder;

// Runs all windows. Everything runs on `device`; the VAE and the backbones must be there.
//
// With a run folder, what is done is kept there, and what is there already is not done again: its frames and latents go through
// the hooks like new ones, and everything ends in the same bits as a run that was never interrupted. A run that stops on
// should_stop has decoded all chunks that are finished, and kept where it stood if the state fits checkpoint_bytes.
RunStats generate(const GenerateSettings& settings, const BackboneFactory& make_backbone, const WanVae& vae,
                  CachePolicy& policy, NoiseSource& noise, const at::Device& device, const GenerateHooks& hooks,
                  RunFolder* folder = nullptr);

}  // namespace longtake
