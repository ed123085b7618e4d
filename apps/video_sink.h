// Where a run's frames go: an mp4, or (for any build) a .safetensors file with latents and frames.
#pragma once

#include <ATen/core/Tensor.h>

#include <nlohmann/json_fwd.hpp>

#include <filesystem>
#include <memory>
#include <optional>

#include "runtime/options.h"

namespace longtake {

// What a video says about its making (video_io/metadata.h): program, version, prompt, seed, settings.
nlohmann::ordered_json video_record(const GenerateOptions& options, const nlohmann::ordered_json& settings);

class VideoSink {
 public:
  // Checks that the output can be written. Errors: usage for an unknown extension, bad_file for the place.
  VideoSink(const GenerateOptions& options, const nlohmann::ordered_json& settings);
  ~VideoSink();

  // Lets an mp4 grow in a file that players can open (video_io/writer.h); before the first frames.
  void grow_in(const std::filesystem::path& file);

  // Frames that the run did not make, before all others: uint8 [n, H, W, 3].
  void given(const at::Tensor& frames);
  // The two may be called from two threads.
  void latents(int window, const at::Tensor& latents);  // [C, F, h, w]
  void frames(const at::Tensor& frames);                              // [3, n, H, W] in [-1, 1]
  int64_t frame_count() const { return frames_; }  // of the run's own
  int64_t playable() const;  // frames that a player finds in the growing file

  // Puts the file in place; without it nothing stays behind. Fewer frames of the run than `planned` are said to be a part.
  void finish(std::optional<int64_t> planned = std::nullopt);

 private:
  class Target;
  class TensorFile;
  class Mp4;
  std::unique_ptr<nlohmann::ordered_json> record_;
  std::unique_ptr<Target> target_;
  int64_t given_ = 0, frames_ = 0;
};

}  // namespace longtake
