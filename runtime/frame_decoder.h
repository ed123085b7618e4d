// Latents of window after window into frames, each frame once and as soon as its latents are there.
//
// The VAE gets groups of `decode_latents` latent frames counted from the window's start, so the frames are the same bits
// whether a window comes at once or chunk by chunk. With re-encoded history a window is a clip of its own whose first
// `overlap_frames` frames are dropped; with carried history one stream goes through all windows and the latents of the
// overlap are left out.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

#include "models/wan_vae/stream.h"
#include "runtime/windows.h"

namespace longtake {

struct GenerateSettings;

class FrameDecoder {
 public:
  // frames [3, n, H, W] in [-1, 1], float32, n >= 1.
  using OnFrames = std::function<void(const at::Tensor& frames)>;

  // Borrows the settings and the VAE.
  FrameDecoder(const GenerateSettings& settings, const WanVae& vae, OnFrames on_frames);

  void begin_window(const WindowSpan& window);
  // The window's next latents [C, n, h, w], its prefix included.
  void push(const at::Tensor& latents);
  // Decodes what waits for a full group: at the end of a window, or of what there is of it.
  void flush();

  // The last overlap_frames frames so far [3, n, H, W]; kept where settings re-encode history.
  const at::Tensor& tail() const { return tail_; }
  double seconds() const { return seconds_; }  // spent on decoding and in on_frames

 private:
  void decode(const at::Tensor& latents);
  void skip_context();
  void keep_tail(const at::Tensor& frames);

  const GenerateSettings& settings_;
  const WanVae& vae_;
  OnFrames on_frames_;
  std::unique_ptr<VaeDecodeStream> stream_;
  at::Tensor waiting_;
  int64_t skip_latents_ = 0, skip_frames_ = 0;
  at::Tensor tail_;
  double seconds_ = 0;
};

}  // namespace longtake
