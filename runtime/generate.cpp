#include "runtime/generate.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>

#include <chrono>

#include "base/error.h"
#include "runtime/frame_decoder.h"
#include "runtime/run_folder.h"
#include "runtime/stopwatch.h"
#include "runtime/work_queue.h"

namespace longtake {
namespace {

constexpr double kStateBytesPerSecond = 2e8;  // of a disk before the first state is measured
constexpr size_t kDecodeQueue = 8;  // chunks that may wait before denoising waits for them

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) { return std::chrono::duration<double>(to - from).count(); }

struct Stopped {};

class Generation {
 public:
  Generation(const GenerateSettings& settings, const BackboneFactory& make_backbone, const WanVae& vae, CachePolicy& policy,
             NoiseSource& noise, const at::Device& device, const GenerateHooks& hooks, RunFolder* folder)
      : settings_(settings), make_backbone_(make_backbone), vae_(vae), policy_(policy), noise_(noise), device_(device),
        hooks_(hooks), folder_(folder), solver_(settings.steps, settings.shift),
        decoder_(settings, vae, [this](const at::Tensor& frames) { if (hooks_.on_frames) hooks_.on_frames(frames); }),
        queue_(settings.decode_ahead ? kDecodeQueue : 0) {}

  RunStats run() {
    const int64_t given = settings_.given.defined() ? settings_.given.size(1) : 0;
    LONGTAKE_CHECK(given == settings_.plan.request.given_frames, "expected {} given frames, found {}", settings_.plan.request.given_frames,
                   given);
    LONGTAKE_CHECK(settings_.end_picture.defined() == settings_.plan.request.end_picture, "expected an end picture as the plan says");
    const int first = folder_ ? take_up() : 0;
    const auto& windows = settings_.plan.windows;
    for (int w = first; w < static_cast<int>(windows.size()); ++w) {
      try {
        if (w > first) stop_if_asked();
        run_window(windows[w], w == first && folder_ ? folder_->state(w) : std::nullopt);
      } catch (const Stopped&) {
        decode_rest();
        queue_.wait();
        fail(ExitCode::interrupted, "interrupted in window {} of {}", w + 1, windows.size());
      }
    }
    queue_.wait();
    stats_.decode_seconds = decoder_.seconds();
    return stats_;
  }

 private:
  void stop_if_asked() const {
    if (hooks_.should_stop && hooks_.should_stop()) throw Stopped{};
  }

  // The windows that the folder holds are decoded again; returns the first one that it does not.
  int take_up() {
    const RunProgressMade made = folder_->attach(settings_);
    if (made.windows == 0) return 0;
    for (int w = 0; w < made.windows; ++w) {
      previous_ = folder_->latents(w, previous_).to(device_);
      if (hooks_.on_latents) hooks_.on_latents(settings_.plan.windows[w], previous_);
    }
    // One task, so that a long video does not fill the queue: denoising goes on at once.
    queue_.post([this, windows = made.windows] {
      at::Tensor before;
      for (int w = 0; w < windows; ++w) {
        decoder_.begin_window(settings_.plan.windows[w]);
        decoder_.push(before = folder_->latents(w, before).to(device_));
        decoder_.flush();
      }
    });
    const State state = folder_->window(made.windows - 1);
    stats_.load(state);
    if (made.windows < static_cast<int>(settings_.plan.windows.size())) {
      const auto backbone = make_backbone_(window_geometry(settings_, settings_.plan.windows[made.windows - 1]));
      policy_.load(state, state_layout(*backbone, previous_.narrow(1, 0, 1), settings_.denoise.branches()));
      noise_.load(state, {made.windows, made.windows, 0});
    }
    state.check_all_read();
    return made.windows;
  }

  // The window's prefix [C, P, h, w].
  at::Tensor take_over(const WindowSpan& window) {
    const bool given = window.index == 0;
    if (!given && settings_.history == History::carry) {
      const int64_t overlap = settings_.plan.overlap_latents;
      return previous_.narrow(1, previous_.size(1) - overlap, window.prefix_latents);
    }
    if (folder_)
      if (const auto saved = folder_->prefix(window.index)) return saved->to(device_);
    queue_.wait();
    const at::Tensor frames = given ? settings_.given.to(device_) : decoder_.tail();
    at::Tensor prefix;
    {
      const Stopwatch watch(stats_.encode_seconds);
      prefix = vae_.encode(frames.unsqueeze(0)).squeeze(0).narrow(1, 0, window.prefix_latents);
    }
    keep([&] { folder_->save_prefix(window.index, prefix); });
    return prefix;
  }

  // The picture that the window leads to [C, 1, h, w]. Encoded anew by a resumed run: the same picture gives the same bits.
  at::Tensor encode_end() {
    queue_.wait();
    const Stopwatch watch(stats_.encode_seconds);
    return vae_.encode(settings_.end_picture.to(device_).unsqueeze(0)).squeeze(0);
  }

  void run_window(const WindowSpan& window, const std::optional<State>& resume) {
    const Schedule schedule = window_schedule(settings_, window);
    if (hooks_.on_window_start) hooks_.on_window_start(window, schedule);
    const std::vector<int64_t> shape{settings_.latent_channels, window.latent_frames, settings_.height / 8, settings_.width / 8};
    const at::Tensor prefix = window.prefix_latents > 0 ? take_over(window) : at::Tensor();
    // A state brings its own latents, and a sequential generator has drawn this window's already.
    at::Tensor latents = resume ? at::zeros(shape, at::kFloat).to(device_) : noise_.latents(window.index, shape).to(device_);
    if (prefix.defined()) latents.narrow(1, 0, window.prefix_latents).copy_(prefix);
    finished_chunks_.clear();
    queue_.post([this, window] { decoder_.begin_window(window); });
    if (prefix.defined()) decode_soon(prefix);
    if (resume) take_up_chunks(window, schedule, *resume);
    if (window.end_picture) latents = at::cat({encode_end(), latents}, 1);  // chunk 0, as window_chunks has it
    latents = denoise(window, schedule, latents, resume);
    if (window.end_picture) latents = latents.narrow(1, 1, window.latent_frames);
    finish_window(window, latents);
  }

  // The chunks that were finished when the state was written.
  void take_up_chunks(const WindowSpan& window, const Schedule& schedule, const State& state) {
    const int64_t row = state.integers("row", 1)[0];
    for (int c = schedule.ready_chunks(); c < schedule.chunks(); ++c)
      if (schedule.last_row(c) <= row) decode_soon(folder_->chunk(window.index, c).to(device_));
  }

  at::Tensor denoise(const WindowSpan& window, const Schedule& schedule, const at::Tensor& latents, const std::optional<State>& resume) {
    const WindowGeometry geometry = window_geometry(settings_, window);
    DenoiseHooks hooks = hooks_.denoise;
    hooks.on_row_end = [&](const RowEnd& end) {
      if (hooks_.denoise.on_row_end) hooks_.denoise.on_row_end(end);
      row_ended(window, geometry, end);
    };
    row_began_ = Clock::now();
    const auto backbone = make_backbone_(geometry);
    return denoise_window(*backbone, policy_, schedule, solver_, settings_.denoise, window.index, latents, noise_, stats_, hooks,
                          resume ? &*resume : nullptr);
  }

  void row_ended(const WindowSpan& window, const WindowGeometry& geometry, const RowEnd& end) {
    const auto now = Clock::now();
    stats_.denoise_seconds += seconds_between(row_began_, now);
    row_began_ = now;
    for (const int c : end.finished) {
      const auto& span = geometry.chunks[c];
      const at::Tensor latents = end.latents.narrow(1, span.first, span.frames).clone();
      if (!at::isfinite(latents).all().item<bool>())
        fail(ExitCode::numerical, "chunk {} of window {} ended in values that are not finite; run with --dtype fp32, or report the settings",
             c + 1, window.index + 1);
      keep([&] { folder_->save_chunk(window.index, c, latents); });
      if (hooks_.on_chunk) hooks_.on_chunk(window, c, latents);
      decode_soon(latents);
    }
    const bool last = end.row + 1 == end.rows;
    const bool stop = !last && hooks_.should_stop && hooks_.should_stop();
    if (folder_ && !last && (stop || !end.finished.empty() || end.row == 0)) checkpoint(window, end, stop);
    if (stop) throw Stopped{};
  }

  // Writes the state where it fits and is worth its time, or the run stops here; says once where it does not fit.
  void checkpoint(const WindowSpan& window, const RowEnd& end, bool stop) {
    const State state = end.state();
    if (state.bytes() > settings_.checkpoint_bytes) {
      if (!told_size_ && hooks_.on_note)
        hooks_.on_note(fmt::format("the state within a window takes {} MB and --checkpoint-budget allows {}: a resume goes on from the last one "
                                   "that fitted, or starts the window again that it finds unfinished",
                                   state.bytes() >> 20, settings_.checkpoint_bytes >> 20));
      told_size_ = true;  // it may fit again: K/V and residuals come and go
      return;
    }
    const double expected = state_seconds_.value_or(static_cast<double>(state.bytes()) / kStateBytesPerSecond);
    const bool worth = !end.finished.empty() && settings_.checkpoint_share * seconds_between(state_written_, Clock::now()) >= expected;
    if (!stop && !worth) return;
    const auto start = Clock::now();
    keep([&] { folder_->save_state(window.index, end.row, state); });
    state_written_ = Clock::now();
    state_seconds_ = seconds_between(start, state_written_);
  }

  // Writes to the folder where there is one.
  void keep(const std::function<void()>& write) {
    if (!folder_) return;
    const Stopwatch watch(stats_.checkpoint_seconds);
    write();
  }

  // Off the path of denoising, or gathered until the window is done.
  void decode_soon(const at::Tensor& latents) {
    if (settings_.decode_ahead)
      queue_.post([this, latents] { decoder_.push(latents); });
    else
      finished_chunks_.push_back(latents);
  }

  void finish_window(const WindowSpan& window, const at::Tensor& latents) {
    keep([&] {
      State state;
      stats_.save(state);
      if (window.index + 1 < static_cast<int>(settings_.plan.windows.size())) {
        policy_.begin_window(window.index + 1);  // what a policy forgets between windows need not be written
        policy_.save(state);
        noise_.save(state);
      }
      folder_->save_window(window.index, state);
    });
    if (hooks_.on_latents) hooks_.on_latents(window, latents);
    decode_rest();
    previous_ = latents;
  }

  void decode_rest() {
    for (const at::Tensor& chunk : finished_chunks_) decoder_.push(chunk);
    queue_.post([this] { decoder_.flush(); });
  }

  const GenerateSettings& settings_;
  const BackboneFactory& make_backbone_;
  const WanVae& vae_;
  CachePolicy& policy_;
  NoiseSource& noise_;
  const at::Device device_;
  const GenerateHooks& hooks_;
  RunFolder* folder_;
  const UniPc solver_;
  RunStats stats_;
  at::Tensor previous_;                      // latents of the window before
  std::vector<at::Tensor> finished_chunks_;  // of this window, not decoded yet; empty with decode_ahead
  bool told_size_ = false;
  Clock::time_point row_began_, state_written_ = Clock::now();
  std::optional<double> state_seconds_;  // that the last state took
  FrameDecoder decoder_;
  WorkQueue queue_;  // last: it stops before what its tasks use is gone
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

RunStats generate(const GenerateSettings& settings, const BackboneFactory& make_backbone, const WanVae& vae,
                  CachePolicy& policy, NoiseSource& noise, const at::Device& device, const GenerateHooks& hooks,
                  RunFolder* folder) {
  return Generation(settings, make_backbone, vae, policy, noise, device, hooks, folder).run();
}

}  // namespace longtake
