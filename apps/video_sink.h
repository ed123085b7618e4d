// Where a run's frames go: an mp4, or (for any build) a .safetensors file with latents and frames.
#pragma once

#include <ATen/core/Tensor.h>

#include <nlohmann/json_fwd.hpp>

#include <memory>

#include "runtime/options.h"
#include "runtime/windows.h"

namespace longtake {

// What a video says about its making (video_io/metadata.h): program, version, prompt, seed, settings.
nlohmann::ordered_json video_record(const GenerateOptions& options, const nlohmann::ordered_json& settings);

class VideoSink {
 public:
  // Checks that the output can be written. Errors: usage for an unknown extension, bad_file for the place.
  VideoSink(const GenerateOptions& options, const nlohmann::ordered_json& settings);
  ~VideoSink();

  void latents(const WindowSpan& window, const at::Tensor& latents);  // [C, F, h, w]
  void frames(const at::Tensor& frames);                              // [3, n, H, W] in [-1, 1]
  void finish();  // puts the file in place; without it nothing stays behind

 private:
  class Target;
  class TensorFile;
  class Mp4;
  std::unique_ptr<Target> target_;
};

}  // namespace longtake
