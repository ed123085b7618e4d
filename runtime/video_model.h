// A model that is loaded once and makes any number of videos, whatever its family: what the verbs that make videos work with.
//
// Texts come first, so that the text encoder and the transformer never stand in memory together; the transformer and the VAE are loaded by
// load(), or by the first run().
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/generate_hooks.h"
#include "runtime/latent_preview.h"
#include "runtime/model.h"
#include "runtime/options.h"
#include "runtime/policies.h"
#include "runtime/run_loop.h"

namespace longtake {

// One run, resolved: what to make, and how. Each family has its own (engine.h, magi_engine.h).
class VideoRequest {
 public:
  virtual ~VideoRequest() = default;

  virtual std::vector<std::string> all_prompts() const = 0;
  virtual std::vector<std::string> all_texts() const = 0;  // that must be encoded, the prompts among them
  virtual int frames() const = 0;                          // that the run hands out
  virtual RunLayout layout() const = 0;
  virtual const PolicyChoice& chosen_policy() const = 0;
  virtual bool extras() const { return false; }  // as a plan of the run has them (Plan::extras)
  virtual RunSettings& run_settings() = 0;

  // Frames that the video begins with [3, n, H, W] in [-1, 1] and the picture that it leads to [3, 1, H, W]; undefined for none. They are
  // those that the options name.
  virtual void give(const at::Tensor& given, const at::Tensor& end_picture) = 0;

  int64_t shown_frames = 0;  // that the output shows before the run's own: they go there before anything is encoded or loaded
};

class VideoModel {
 public:
  using OnNote = std::function<void(const std::string&)>;  // what the user should know

  VideoModel() = default;
  virtual ~VideoModel() = default;
  VideoModel(const VideoModel&) = delete;
  VideoModel& operator=(const VideoModel&) = delete;

  // Lets texts come from the user's cache folder, and go there, where the family's are kept there.
  virtual void cache_texts(OnNote /*on_note*/) {}
  // Whether encode() would load no text encoder: each of the texts was encoded before or is in the cache.
  virtual bool knows(const std::vector<std::string>& texts) = 0;
  // Encodes the texts that are new.
  virtual void encode(const std::vector<std::string>& texts) = 0;
  virtual bool truncated(const std::string& text) const = 0;  // whether an encoded text is longer than what the model reads of it
  virtual int64_t text_length() const = 0;                    // tokens of a prompt that the model reads

  virtual void load() = 0;

  // As run_windows() (run_loop.h). The request must be one of the model's family, and its texts must have been encoded.
  virtual RunStats run(const VideoRequest& request, const GenerateHooks& hooks, RunFolder* folder) = 0;
  // As decode_kept() (run_loop.h): loads the VAE alone.
  virtual void decode(const VideoRequest& request, const RunFolder& folder, const GenerateHooks& hooks) = 0;

  virtual LatentPreview preview() const = 0;  // the model must be loaded
  virtual const ModelTarget& target() const = 0;
};

// The request that the options describe for a model of this recipe, whose given frames are still to come; `note` says what was rounded. The
// seed must be set unless the request is only planned. Errors: usage.
std::unique_ptr<VideoRequest> make_video_request(const Recipe& recipe, const GenerateOptions& options, std::string* note = nullptr);

// The number of frames that a run of these options hands out; from the options alone.
int video_frames(const Recipe& recipe, const GenerateOptions& options);

// The model's files must be there. `precision` as in the options.
std::unique_ptr<VideoModel> make_video_model(const ResolvedModel& model, const ModelTarget& target, const std::string& precision);

}  // namespace longtake
