// How a video longer than the model's window is cut into windows, and which lengths fit.
//
// A video of n frames has (n - 1) / 4 + 1 latent frames: the first latent frame is one frame, every other one four. A
// window is at most (window_frames - 1) / 4 + 1 latent frames; each window after the first starts with a clean prefix,
// the last `overlap_frames` frames of the video so far (reference:
// skyreels_v2_infer/pipelines/diffusion_forcing_pipeline.py, long video path). A prefix that does not fill its last
// chunk is cut there: the rest is generated again and not shown.
//
// The first window may start with a prefix too: frames that are given, such as an image or the end of a video. They are the first of the
// frames that are counted here.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace longtake {

struct WindowRequest {
  int frames = 97;             // of the whole video
  int window_frames = 97;      // of one window
  int overlap_frames = 17;     // of the prefix; only read where the video exceeds one window
  int given_frames = 0;        // at the start of the first window, 4k + 1; 0: none
  int chunk = 1;               // latent frames that are denoised together
  bool end_picture = false;    // the last window leads to a picture that is given
  bool whole_chunks = false;   // parity: refuse windows that do not divide into chunks (the reference loses the rest)
  bool whole_windows = false;  // parity with MotionCache's fork: refuse a last window shorter than the others
};

struct WindowSpan {
  int index = 0;
  int latent_frames = 0;   // prefix included
  int prefix_latents = 0;  // clean on entry; whole chunks, or in the first window as many as are given
  int first_frame = 0;     // of the video: the first frame that this window adds
  int frames = 0;          // that it adds
  bool end_picture = false;  // one more latent frame is given: the one behind its last, not shown and not counted above
};

struct WindowPlan {
  WindowRequest request;
  int latent_frames = 0;    // of the whole video
  int overlap_latents = 0;  // latent frames of the overlap before it is cut to whole chunks; 0 for a single window
  std::vector<WindowSpan> windows;
};

constexpr int temporal_stride = 4;  // frames per latent frame after the first

constexpr int latent_frames_of(int frames) { return (frames - 1) / temporal_stride + 1; }
constexpr int frames_of(int latent_frames) { return (latent_frames - 1) * temporal_stride + 1; }

// Throws (usage) with one sentence that names the rule broken and, for the frame count, the nearest counts that fit.
WindowPlan plan_windows(const WindowRequest& request);

// The frame count nearest to `seconds` at `fps` that fits; the rest of the request as given. `note` says what was
// rounded and is empty where nothing was.
struct DurationFrames {
  int frames = 0;
  std::string note;
};
// `before` frames come first and do not count into the duration.
DurationFrames frames_for_duration(double seconds, double fps, WindowRequest request, int before = 0);

}  // namespace longtake
