// What a run says while it goes on, whatever the model's family. Windows and chunks count from 0, as in its RunLayout.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

#include "runtime/denoise_hooks.h"

namespace longtake {

struct GenerateHooks {
  DenoiseHooks denoise;
  std::function<void(int window)> on_window_start;
  std::function<void(int window, const at::Tensor& latents)> on_latents;  // of a finished window: clean [C, F, h, w]
  std::function<void(int window, int chunk, const at::Tensor& latents)> on_chunk;  // a finished chunk [C, n, h, w]
  // New frames only: [3, n, H, W] in [-1, 1], in order. Called from the decoding thread where finished chunks are decoded ahead.
  std::function<void(const at::Tensor& frames)> on_frames;
  std::function<void(const std::string&)> on_note;  // what the user should know
  std::function<bool()> should_stop;                // true ends the run with an Error (interrupted); asked between rows, and
                                                    // by the decoding thread between chunks that a folder holds
};

}  // namespace longtake
