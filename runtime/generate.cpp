#include "runtime/generate.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>

#include <chrono>

#include "base/error.h"
#include "models/wan_vae/stream.h"

namespace longtake {
namespace {

class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), start_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point start_;
};

// Decodes window after window and hands out each frame once.
class FrameDecoder {
 public:
  FrameDecoder(const GenerateSettings& settings, const WanVae& vae, const GenerateHooks& hooks)
      : settings_(settings), vae_(vae), hooks_(hooks) {}

  // latents [C, F, h, w] of a window, its prefix included.
  void decode(const WindowSpan& window, const at::Tensor& latents) {
    const bool carry = settings_.history == History::carry;
    int64_t first = 0, skip = 0;
    if (carry && window.index > 0) {
      // The stream stands behind the overlap already: latents of a cut prefix that were generated again are left out.
      first = settings_.plan.overlap_latents;
    } else {
      stream_ = std::make_unique<VaeDecodeStream>(vae_);
      if (window.index > 0) skip = settings_.plan.request.overlap_frames;
    }
    for (int64_t at = first; at < latents.size(1); at += settings_.decode_latents) {
      const int64_t n = std::min<int64_t>(settings_.decode_latents, latents.size(1) - at);
      at::Tensor frames = stream_->push(latents.narrow(1, at, n).unsqueeze(0)).squeeze(0).to(at::kFloat);
      const int64_t dropped = std::min(skip, frames.size(1));
      skip -= dropped;
      frames = frames.narrow(1, dropped, frames.size(1) - dropped);
      if (frames.size(1) > 0) emit(frames);
    }
  }

  // The last `overlap` frames of the video so far as latents [C, O, h, w].
  at::Tensor encode_tail() const { return vae_.encode(tail_.unsqueeze(0)).squeeze(0); }

 private:
  void emit(const at::Tensor& frames) {
    if (hooks_.on_frames) hooks_.on_frames(frames);
    if (settings_.history == History::reencode && settings_.plan.windows.size() > 1) {
      const int64_t wanted = settings_.plan.request.overlap_frames;
      const at::Tensor all = tail_.defined() ? at::cat({tail_, frames}, 1) : frames;
      const int64_t n = std::min(wanted, all.size(1));
      tail_ = all.narrow(1, all.size(1) - n, n).clone();
    }
  }

  const GenerateSettings& settings_;
  const WanVae& vae_;
  const GenerateHooks& hooks_;
  std::unique_ptr<VaeDecodeStream> stream_;
  at::Tensor tail_;  // [3, overlap, H, W]
};

}  // namespace

Schedule window_schedule(const GenerateSettings& settings, const WindowSpan& window) {
  const int chunk = settings.plan.request.chunk;
  const int chunks = static_cast<int>(split_chunks(window.latent_frames, chunk).size());
  return Schedule(flow_timesteps(settings.steps, settings.shift), chunks, window.prefix_latents / chunk, settings.ar_step);
}

WindowGeometry window_geometry(const GenerateSettings& settings, const WindowSpan& window) {
  WindowGeometry g;
  for (const ChunkSpan& span : split_chunks(window.latent_frames, settings.plan.request.chunk))
    g.chunks.push_back({span.first, span.frames});
  g.latent_height = settings.height / 8;
  g.latent_width = settings.width / 8;
  return g;
}

PlanGeometry plan_geometry(const GenerateSettings& settings) {
  PlanGeometry g{.plane = (settings.height / 16) * (settings.width / 16), .steps = settings.steps, .branches = settings.denoise.branches()};
  for (const WindowSpan& window : settings.plan.windows) {
    PlanGeometry::Window w{.frames = {}, .prefix = window.prefix_latents / settings.plan.request.chunk};
    for (const ChunkSpan& span : split_chunks(window.latent_frames, settings.plan.request.chunk)) w.frames.push_back(span.frames);
    g.windows.push_back(std::move(w));
  }
  return g;
}

RunStats generate(const GenerateSettings& settings, const BackboneFactory& make_backbone, const WanVae& vae,
                  CachePolicy& policy, NoiseSource& noise, const at::Device& device, const GenerateHooks& hooks) {
  RunStats stats;
  const UniPc solver(settings.steps, settings.shift);
  FrameDecoder decoder(settings, vae, hooks);
  at::Tensor previous;
  for (const WindowSpan& window : settings.plan.windows) {
    const Schedule schedule = window_schedule(settings, window);
    if (hooks.on_window_start) hooks.on_window_start(window, schedule);
    at::Tensor latents = noise
                             .latents(window.index, {settings.latent_channels, window.latent_frames, settings.height / 8,
                                                     settings.width / 8})
                             .to(device);
    if (window.prefix_latents > 0) {
      const Stopwatch watch(stats.encode_seconds);
      const int64_t overlap = settings.plan.overlap_latents;
      const at::Tensor tail = settings.history == History::carry
                                  ? previous.narrow(1, previous.size(1) - overlap, overlap)
                                  : decoder.encode_tail();
      latents.narrow(1, 0, window.prefix_latents).copy_(tail.narrow(1, 0, window.prefix_latents));
    }
    {
      const Stopwatch watch(stats.denoise_seconds);
      const auto backbone = make_backbone(window_geometry(settings, window));
      latents = denoise_window(*backbone, policy, schedule, solver, settings.denoise, window.index, latents, noise, stats,
                               hooks.denoise);
      if (!at::isfinite(latents).all().item<bool>())
        fail(ExitCode::numerical, "window {} ended in values that are not finite; run with --dtype fp32, or report the settings",
             window.index + 1);
    }
    if (hooks.on_latents) hooks.on_latents(window, latents);
    const Stopwatch watch(stats.decode_seconds);
    decoder.decode(window, latents);
    previous = latents;
  }
  return stats;
}

}  // namespace longtake
