// A SkyReels-V2 model that is loaded once and serves any number of runs (video_model.h).
//
// encode() loads the text encoder, encodes all texts that are not known yet and frees it again. With a cache of texts the encoder is loaded
// for those alone that are not in it.
//
// With fp8 products the first run tries attention in fp8 on a small case, and stays with bf16 attention where neither our kernel nor cuDNN can do
// it, then one chunk of its first step; where that is not finite, the model is loaded again without fp8. Runs that compress keys and values keep
// attention in bf16. Each of these is said once.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "models/skyreels/backbone.h"
#include "runtime/generate.h"
#include "runtime/model.h"
#include "runtime/options.h"
#include "runtime/policies.h"
#include "runtime/text_cache.h"
#include "runtime/video_model.h"

namespace longtake {

// One run, resolved: what to make, and how.
struct RunRequest final : VideoRequest {
  std::vector<std::string> prompts;  // one, or those that settings.texts counts
  std::string negative;
  uint64_t seed = 0;
  bool parity = false;  // noise from LibTorch's CPU generator in the reference's order instead of our own
  int fps = 24;
  PolicyChoice policy;
  GenerateSettings settings;

  std::vector<std::string> all_prompts() const override { return prompts; }
  std::vector<std::string> all_texts() const override;
  int frames() const override;
  RunLayout layout() const override { return run_layout(settings); }
  const PolicyChoice& chosen_policy() const override { return policy; }
  RunSettings& run_settings() override { return settings; }
  void give(const at::Tensor& given, const at::Tensor& end_picture) override { settings.given = given, settings.end_picture = end_picture; }
};

// The request that the options describe; a duration becomes frames, and `note` says what was rounded. The seed must be set
// unless the request is only planned.
RunRequest make_request(const GenerateOptions& options, std::string* note = nullptr);

// How steps look to policies on this model: `embedding` gives the conditioning vector of a timestep.
StepModel step_model(const Recipe& recipe, std::function<at::Tensor(double)> embedding, int64_t dim);

class Engine final : public VideoModel {
 public:
  // The model's files, which must be there; or with `random_seed` its recipe's sizes with random weights and texts
  // (random_model.h), for measurements.
  Engine(ResolvedModel model, const ModelTarget& target, std::optional<uint64_t> random_seed = std::nullopt);

  void cache_texts(OnNote on_note) override;
  bool knows(const std::vector<std::string>& texts) override;
  void encode(const std::vector<std::string>& texts) override;
  const EncodedText& text(const std::string& text) const;  // its context is in host memory
  bool truncated(const std::string& text) const override { return this->text(text).truncated; }
  int64_t text_length() const override;

  void load() override;
  bool loaded() const { return transformer_.has_value(); }

  // How the request's steps look to policies; valid while the engine is. Its texts must have been encoded.
  StepModel steps(const RunRequest& request);

  // `policy` decides instead of the request's.
  RunStats run(const RunRequest& request, const GenerateHooks& hooks, RunFolder* folder = nullptr, CachePolicy* policy = nullptr);
  RunStats run(const VideoRequest& request, const GenerateHooks& hooks, RunFolder* folder) override {
    return run(dynamic_cast<const RunRequest&>(request), hooks, folder);
  }
  void decode(const VideoRequest& request, const RunFolder& folder, const GenerateHooks& hooks) override;

  LatentPreview preview() const override { return LatentPreview(*vae_); }
  const ResolvedModel& model() const { return model_; }
  const ModelTarget& target() const override { return target_; }  // as it is: fp8 is false once it was given up
  const skyreels::Transformer& transformer() const { return *transformer_; }
  const WanVae& vae() const { return *vae_; }

 private:
  // Those that are not encoded, each once, with the cache asked.
  std::vector<std::string> unknown(const std::vector<std::string>& texts);
  BackboneFactory backbones(const RunRequest& request);
  void load_transformer();
  void load_vae();
  bool first_step_is_finite(const RunRequest& request);
  // Tries fp8 products once, and says through on_note what became of them.
  void settle_precision(const RunRequest& request, const std::function<void(const std::string&)>& on_note);
  const skyreels::TextKv& text_kv(const std::string& text);

  ResolvedModel model_;
  ModelTarget target_;
  std::optional<uint64_t> random_seed_;
  std::map<std::string, EncodedText> texts_;
  std::optional<TextCache> text_cache_;
  std::optional<skyreels::Transformer> transformer_;
  std::optional<WanVae> vae_;
  int64_t not_in_fp8_ = 0;     // products that should be
  bool precision_settled_ = false;
  std::map<std::string, skyreels::TextKv> text_kv_;  // of the latest run: runs in a row mostly share theirs
  std::unique_ptr<PlannedAttention> attention_;  // null where rows are not fused
  bool attends_in_fp8_ = false;
};

}  // namespace longtake
