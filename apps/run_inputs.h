// What a run is given besides its text: a picture to begin with, a video to go on from, a picture to lead to.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "runtime/options.h"
#include "runtime/recipe.h"
#include "runtime/video_model.h"

namespace longtake {

class FittedVideo;
class VideoSink;

// How many last frames of a video a model takes: 4k + `rest`.
struct ContextRule {
  int64_t usual;  // where the options leave it open
  int64_t rest;
};
ContextRule context_rule(const Recipe& recipe, const GenerateOptions& options);

class RunInputs {
 public:
  // Reads what the options name, fits it to the video, and sets the context that they left open (options.context). Errors: bad_file for
  // what cannot be read (video_io/still.h, video_io/reader.h), usage for a context that is longer than the video.
  RunInputs(GenerateOptions& options, const ContextRule& rule);
  ~RunInputs();
  RunInputs(RunInputs&&) noexcept;

  // What was done to fit it, one sentence; "" for nothing.
  const std::string& note() const { return note_; }

  // Frames that the output shows before the run's own, and their way into it.
  int64_t shown_frames() const;
  void show(VideoSink& sink) const;

  // Gives the frames to a run of the same options.
  void give(VideoRequest& request) const {
    request.give(given_, end_);
    request.shown_frames = shown_frames();
  }

 private:
  std::string note_;
  at::Tensor given_, end_;  // [3, n, H, W] in [-1, 1]; undefined: none
  std::unique_ptr<FittedVideo> video_;
  bool shown_ = false;  // the video
};

// Refuses to extend where there is no video.
void check_extends(const GenerateOptions& options, bool extends);

// Refuses a video to go on from and prompts over time, for verbs that make whole videos of prompts of their own.
void refuse_video(const GenerateOptions& options, const std::string& verb);

}  // namespace longtake
