#include "runtime/windows.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace longtake {
namespace {

constexpr int max_frames = 1'000'000;

// Everything but the frame count. `long_video`: the request needs more than one window, so that the overlap counts.
void check_settings(const WindowRequest& r, bool long_video) {
  if (r.chunk < 1) fail_usage("chunk must be at least 1 latent frame, got {}", r.chunk);
  if (r.window_frames < 1 || r.window_frames > max_frames || r.window_frames % temporal_stride != 1)
    fail_usage("window frames must be 4k + 1 (such as 97), got {}", r.window_frames);
  const int window = latent_frames_of(r.window_frames);
  if (r.whole_chunks && window % r.chunk != 0)
    fail_usage("a window of {} frames has {} latent frames, which chunks of {} do not divide; use --window {}",
               r.window_frames, window, r.chunk, frames_of(std::max(window / r.chunk, 1) * r.chunk));
  if (r.given_frames < 0 || (r.given_frames > 0 && r.given_frames % temporal_stride != 1)) {
    const int below = (std::max(r.given_frames, 1) - 1) / temporal_stride * temporal_stride + 1;
    fail_usage("a context must have 4k + 1 frames, got {}; the nearest that do are {} and {}", r.given_frames, below, below + temporal_stride);
  }
  if (r.given_frames >= r.window_frames && r.window_frames == 1)
    fail_usage("given frames leave nothing new in a window of 1; use a longer --window");
  if (r.given_frames >= r.window_frames)
    fail_usage("a context of {} frames leaves nothing new in a window of {}; use --context {} or less, or a longer --window", r.given_frames,
               r.window_frames, r.window_frames - temporal_stride);
  if (r.whole_chunks && r.given_frames > 0 && latent_frames_of(r.given_frames) % r.chunk != 0)
    fail_usage("with chunks of {} the reference overwrites {} given latent frame{}; use --chunk 1, or leave out --parity", r.chunk,
               latent_frames_of(r.given_frames), r.given_frames == 1 ? "" : "s");
  if (!long_video) return;
  if (r.overlap_frames < 1 || r.overlap_frames % temporal_stride != 1)
    fail_usage("overlap frames must be 4k + 1 (such as 17), got {}", r.overlap_frames);
  const int overlap = latent_frames_of(r.overlap_frames);
  if (overlap < r.chunk)
    fail_usage("an overlap of {} frames is shorter than a chunk of {} latent frames; use --overlap {} or more",
               r.overlap_frames, r.chunk, frames_of(r.chunk));
  if (overlap >= window)
    fail_usage("an overlap of {} frames leaves nothing new in a window of {}; use --overlap {} or less",
               r.overlap_frames, r.window_frames, frames_of(window - 1));
}

struct Geometry {
  int window, overlap, count;  // latent frames, latent frames, windows
};

Geometry geometry(const WindowRequest& r, int latents) {
  const int window = latent_frames_of(r.window_frames);
  if (latents <= window) return {latents, 0, 1};
  const int overlap = latent_frames_of(r.overlap_frames), stride = window - overlap;
  return {window, overlap, (latents - window + stride - 1) / stride + 1};
}

int latents_of_window(const Geometry& g, int latents, int index) {
  return std::min(latents - index * (g.window - g.overlap), g.window);
}

// Whether the frame count fits settings that are sound.
bool fits(const WindowRequest& r, int frames) {
  if (frames < 1 || frames > max_frames || frames % temporal_stride != 1 || frames <= r.given_frames) return false;
  const int latents = latent_frames_of(frames);
  const Geometry g = geometry(r, latents);
  const int last = latents_of_window(g, latents, g.count - 1);
  if (r.whole_chunks && last % r.chunk != 0) return false;
  return !r.whole_windows || last == latent_frames_of(r.window_frames);
}

struct Neighbours {
  std::optional<int> below, above;
};

Neighbours nearest_fits(const WindowRequest& r, int frames) {
  Neighbours n;
  // A video whose last window is full always fits, and the next such one is at most a window away.
  const int reach = temporal_stride * (latent_frames_of(r.window_frames) + 1) + std::max(r.given_frames - frames, 0);
  for (int d = 0; d <= reach && !n.below; ++d)
    if (fits(r, frames - d)) n.below = frames - d;
  for (int d = 1; d <= reach && !n.above; ++d)
    if (fits(r, frames + d)) n.above = frames + d;
  return n;
}

std::string rule(const WindowRequest& r, int frames) {
  if (frames < 1) return "a video has at least 1 frame";
  if (frames > max_frames) return fmt::format("a video has at most {} frames", max_frames);
  if (frames % temporal_stride != 1) return "frames must be 4k + 1";
  if (frames <= r.given_frames) return fmt::format("with {} given, nothing is left to generate", r.given_frames);
  if (r.whole_windows)
    return fmt::format("parity with the reference needs every window to have {} frames", r.window_frames);
  return fmt::format("parity with the reference needs windows that divide into chunks of {} latent frames", r.chunk);
}

}  // namespace

WindowPlan plan_windows(const WindowRequest& request) {
  const bool long_video = request.frames > request.window_frames;
  check_settings(request, long_video);
  if (!fits(request, request.frames)) {
    const Neighbours n = nearest_fits(request, std::clamp(request.frames, 0, max_frames));
    const std::string why = rule(request, request.frames);
    if (n.below && n.above)
      fail_usage("{} frames do not fit ({}); the nearest that do are {} and {}", request.frames, why, *n.below,
                 *n.above);
    if (!n.below && !n.above) fail_usage("{} frames do not fit ({}), and no other number does", request.frames, why);
    fail_usage("{} frames do not fit ({}); the nearest that do are {}", request.frames, why,
               n.below ? *n.below : *n.above);
  }

  WindowPlan plan;
  plan.request = request;
  plan.latent_frames = latent_frames_of(request.frames);
  const Geometry g = geometry(request, plan.latent_frames);
  plan.overlap_latents = g.overlap;
  int shown = 0;
  for (int i = 0; i < g.count; ++i) {
    WindowSpan w;
    w.index = i;
    w.latent_frames = latents_of_window(g, plan.latent_frames, i);
    if (i > 0)
      w.prefix_latents = g.overlap - g.overlap % request.chunk;
    else if (request.given_frames > 0)
      w.prefix_latents = latent_frames_of(request.given_frames);
    w.first_frame = shown;
    w.frames = frames_of(w.latent_frames) - (i > 0 ? request.overlap_frames : 0);
    shown += w.frames;
    plan.windows.push_back(w);
  }
  plan.windows.back().end_picture = request.end_picture;
  LONGTAKE_CHECK(shown == request.frames, "windows add up to {} of {} frames", shown, request.frames);
  return plan;
}

DurationFrames frames_for_duration(double seconds, double fps, WindowRequest request, int before) {
  if (!(seconds > 0) || !std::isfinite(seconds))
    fail_usage("the duration must be more than 0 seconds, got {}", seconds);
  if (!(fps > 0) || !std::isfinite(fps)) fail_usage("fps must be more than 0, got {}", fps);
  const double wanted = before + seconds * fps;
  if (wanted > max_frames) fail_usage("{} seconds at {} fps exceed {} frames", seconds, fps, max_frames);
  check_settings(request, wanted > request.window_frames);
  const Neighbours n = nearest_fits(request, static_cast<int>(std::floor(wanted)));
  if (!n.below && !n.above) fail_usage("no frame count near {} seconds at {} fps fits", seconds, fps);
  const bool down = n.below && (!n.above || wanted - *n.below <= *n.above - wanted);
  DurationFrames out{down ? *n.below : *n.above, ""};
  if (std::abs(out.frames - wanted) > 1e-6)
    out.note = fmt::format("{} s at {} fps is {:.1f} frames; the nearest that fits is {} ({:.2f} s)", seconds, fps,
                           wanted - before, out.frames - before, (out.frames - before) / fps);
  return out;
}

}  // namespace longtake
