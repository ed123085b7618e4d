#include "runtime/generate.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "runtime/frame_decoder.h"

namespace longtake {
namespace {

class SkyreelsDecoder final : public WindowDecoder {
 public:
  SkyreelsDecoder(const GenerateSettings& settings, const WanVae& vae, const GenerateHooks& hooks)
      : settings_(settings), frames_(settings, vae, [&hooks](const at::Tensor& frames) { if (hooks.on_frames) hooks.on_frames(frames); }) {}

  void begin_window(int window, const at::Tensor& prefix) override {
    frames_.begin_window(settings_.plan.windows[window]);
    if (prefix.defined()) frames_.push(prefix);
  }
  void decode(int, int, const at::Tensor& latents) override { frames_.push(latents); }
  void end_window() override { frames_.flush(); }
  double seconds() const override { return frames_.seconds(); }

  const at::Tensor& tail() const { return frames_.tail(); }

 private:
  const GenerateSettings& settings_;
  FrameDecoder frames_;
};

class SkyreelsWindows final : public WindowMaker {
 public:
  SkyreelsWindows(const GenerateSettings& settings, const BackboneFactory& make_backbone, const WanVae& vae, CachePolicy& policy,
                  NoiseSource& noise, const at::Device& device, const SkyreelsDecoder& decoder)
      : settings_(settings), make_backbone_(make_backbone), vae_(vae), policy_(policy), noise_(noise), device_(device), decoder_(decoder),
        solver_(settings.steps, settings.shift) {}

  // In the order of memory that it is read back in from a folder: the VAE's last bits go by that where it decodes one latent at once.
  at::Tensor encode_prefix(int window) override {
    const at::Tensor frames = window == 0 ? settings_.given.to(device_) : decoder_.tail();
    return vae_.encode(frames.unsqueeze(0)).squeeze(0).narrow(1, 0, span(window).prefix_latents).contiguous();
  }

  at::Tensor encode_end_picture(int) override { return vae_.encode(settings_.end_picture.to(device_).unsqueeze(0)).squeeze(0); }

  void take_up(int next, const at::Tensor& latents, const State& state) override {
    const auto backbone = make_backbone_(window_geometry(settings_, span(next - 1)));
    policy_.load(state, state_layout(*backbone, latents.narrow(1, 0, 1), settings_.denoise.branches()));
    noise_.load(state, {next, next, 0});
  }

  at::Tensor denoise(int w, const GivenLatents& given, RunStats& stats, const DenoiseHooks& hooks, const State* resume) override {
    const WindowSpan& window = span(w);
    const std::vector<int64_t> shape{settings_.latent_channels, window.latent_frames, settings_.height / 8, settings_.width / 8};
    // A state brings its own latents, and a sequential generator has drawn this window's already.
    at::Tensor latents = resume ? at::zeros(shape, at::kFloat).to(device_) : noise_.latents(w, shape).to(device_);
    if (given.prefix.defined()) latents.narrow(1, 0, window.prefix_latents).copy_(given.prefix);
    if (window.end_picture) latents = at::cat({given.end_picture, latents}, 1);  // chunk 0, as window_chunks has it
    const auto backbone = make_backbone_(window_geometry(settings_, window));
    latents = denoise_window(*backbone, policy_, window_schedule(settings_, window), solver_, settings_.denoise, w, latents, noise_, stats,
                             hooks, resume);
    return window.end_picture ? latents.narrow(1, 1, window.latent_frames) : latents;
  }

 private:
  const WindowSpan& span(int window) const { return settings_.plan.windows[window]; }

  const GenerateSettings& settings_;
  const BackboneFactory& make_backbone_;
  const WanVae& vae_;
  CachePolicy& policy_;
  NoiseSource& noise_;
  const at::Device device_;
  const SkyreelsDecoder& decoder_;
  const UniPc solver_;
};

}  // namespace

Schedule window_schedule(const GenerateSettings& settings, const WindowSpan& window) {
  const int chunk = settings.plan.request.chunk;
  const int chunks = static_cast<int>(window_chunks(window, chunk).size());
  return Schedule(flow_timesteps(settings.steps, settings.shift), chunks, prefix_chunks(window, chunk), settings.ar_step);
}

int text_of_chunk(const GenerateSettings& settings, const WindowSpan& window, const ChunkSpan& chunk) {
  if (settings.texts.empty()) return 0;
  const int first = latent_of_chunk(window, chunk);
  const int start = window.index == 0 ? 0 : window.first_frame - settings.plan.request.overlap_frames;
  const double begin = first == 0 ? 0 : frames_of(first), end = frames_of(first + chunk.frames);
  const double middle = start + (begin + end) / 2;
  const auto behind = std::upper_bound(settings.texts.begin() + 1, settings.texts.end(), middle);
  return static_cast<int>(behind - settings.texts.begin()) - 1;
}

WindowGeometry window_geometry(const GenerateSettings& settings, const WindowSpan& window) {
  WindowGeometry g;
  g.end_picture = window.end_picture;
  for (const ChunkSpan& span : window_chunks(window, settings.plan.request.chunk))
    g.chunks.push_back({span.first, span.frames, text_of_chunk(settings, window, span), latent_of_chunk(window, span) - span.first});
  g.latent_height = settings.height / 8;
  g.latent_width = settings.width / 8;
  return g;
}

PlanGeometry plan_geometry(const GenerateSettings& settings) {
  PlanGeometry g{.plane = (settings.height / 16) * (settings.width / 16), .steps = settings.steps, .branches = settings.denoise.branches(),
                 .windows = {}, .together = settings.ar_step == 0};
  for (const WindowSpan& window : settings.plan.windows) {
    PlanGeometry::Window w{.frames = {}, .prefix = prefix_chunks(window, settings.plan.request.chunk)};
    for (const ChunkSpan& span : window_chunks(window, settings.plan.request.chunk)) w.frames.push_back(span.frames);
    g.windows.push_back(std::move(w));
  }
  return g;
}

RunLayout run_layout(const GenerateSettings& settings) {
  RunLayout layout{.channels = settings.latent_channels, .height = settings.height / 8, .width = settings.width / 8,
                   .latent_frames = settings.plan.latent_frames, .missing_frames = temporal_stride - 1,
                   .overlap = settings.plan.overlap_latents, .windows = {}};
  for (const WindowSpan& window : settings.plan.windows) {
    const Schedule schedule = window_schedule(settings, window);
    RunLayout::Window w{.chunks = {}, .given = schedule.ready_chunks(), .rows = schedule.rows(), .steps = schedule.steps(),
                        .prefix = window.prefix_latents, .apart = window.prefix_latents,
                        .carried = window.index > 0 && settings.history == History::carry, .end_picture = window.end_picture};
    const int start = window.index == 0 ? 0 : latent_frames_of(window.first_frame) - settings.plan.overlap_latents;
    for (const ChunkSpan& span : window_chunks(window, settings.plan.request.chunk))
      w.chunks.push_back({span.first, span.frames, schedule.last_row(static_cast<int>(w.chunks.size())), start + latent_of_chunk(window, span)});
    layout.windows.push_back(std::move(w));
  }
  return layout;
}

RunStats generate(const GenerateSettings& settings, const BackboneFactory& make_backbone, const WanVae& vae,
                  CachePolicy& policy, NoiseSource& noise, const at::Device& device, const GenerateHooks& hooks,
                  RunFolder* folder) {
  const int64_t given = settings.given.defined() ? settings.given.size(1) : 0;
  LONGTAKE_CHECK(given == settings.plan.request.given_frames, "expected {} given frames, found {}", settings.plan.request.given_frames, given);
  LONGTAKE_CHECK(settings.end_picture.defined() == settings.plan.request.end_picture, "expected an end picture as the plan says");
  SkyreelsDecoder decoder(settings, vae, hooks);
  SkyreelsWindows maker(settings, make_backbone, vae, policy, noise, device, decoder);
  return run_windows(maker, decoder, run_layout(settings), settings, policy, noise, device, hooks, folder);
}

void decode_folder(const GenerateSettings& settings, const WanVae& vae, const GenerateHooks& hooks, const RunFolder& folder) {
  SkyreelsDecoder decoder(settings, vae, hooks);
  decode_kept(decoder, run_layout(settings), vae.device(), hooks, folder);
}

}  // namespace longtake
