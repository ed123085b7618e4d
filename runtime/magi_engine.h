// A MAGI-1 model that is loaded once and serves any number of runs (video_model.h). A video is one run of the schedule, however long it is:
// one window. With a cache of texts the text encoder (19 GB in the published models) is loaded for those alone that are not in it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attention/planned_attention.h"
#include "runtime/denoise_hooks.h"
#include "runtime/magi_codec.h"
#include "runtime/magi_denoise.h"
#include "runtime/magi_model.h"
#include "runtime/policies.h"
#include "runtime/text_cache.h"
#include "runtime/video_model.h"

namespace longtake {

// One run, resolved.
struct MagiRequest final : VideoRequest {
  std::vector<std::string> prompts;  // one, or those that `prompt_of` counts
  std::vector<int> prompt_of;        // which of them each chunk follows, but for those that are given whole; empty: all the first
  uint64_t seed = 0;
  magi::Config config;               // magi_recipe.h
  magi::TextSettings special_tokens;
  PolicyChoice policy;  // of the latent family
  int given_frames = 0;  // as many as `given` will have
  // [3, n, H, W] in [-1, 1]: a picture (n = 1), or the end of a video, 4k frames (4k + 1 with Wan's VAE); undefined for
  // none. A picture is shown, a video's frames are not.
  at::Tensor given;
  int decode_latents = 0;  // latent frames that the VAE decodes at once: a chunk's, or with Wan's VAE fewer
  RunSettings run;

  int prefix_frames() const;                // latent frames
  magi::VideoSettings settings() const;

  std::vector<std::string> all_prompts() const override { return prompts; }
  std::vector<std::string> all_texts() const override { return prompts; }
  int frames() const override;
  RunLayout layout() const override;
  const PolicyChoice& chosen_policy() const override { return policy; }
  bool extras() const override { return settings().schedule.clean_pass; }
  RunSettings& run_settings() override { return run; }
  void give(const at::Tensor& frames, const at::Tensor& end_picture) override;
};

// The request that the options describe, whose `given` is still to come; `note` says what was rounded. Errors: usage.
MagiRequest make_magi_request(const Recipe& recipe, const GenerateOptions& options, std::string* note = nullptr);

class MagiEngine final : public VideoModel {
 public:
  // The model's files, which must be there; or with `random_seed` its recipe's sizes with random weights and texts.
  MagiEngine(ResolvedModel model, const ModelTarget& target, magi::QuantisedAs quantised_as, std::optional<uint64_t> random_seed = std::nullopt);

  void cache_texts(OnNote on_note) override;  // not with random weights
  bool knows(const std::vector<std::string>& texts) override;
  void encode(const std::vector<std::string>& texts) override;
  const MagiCaption& caption(const std::string& text) const;
  bool truncated(const std::string& text) const override { return caption(text).truncated; }
  int64_t text_length() const override { return model_.recipe.architecture.text_len; }

  void load() override;

  RunStats run(const MagiRequest& request, const GenerateHooks& hooks, RunFolder* folder = nullptr);
  RunStats run(const VideoRequest& request, const GenerateHooks& hooks, RunFolder* folder) override {
    return run(dynamic_cast<const MagiRequest&>(request), hooks, folder);
  }
  void decode(const VideoRequest& request, const RunFolder& folder, const GenerateHooks& hooks) override;

  LatentPreview preview() const override;
  const ModelTarget& target() const override { return target_; }
  const magi::Transformer& transformer() const { return *transformer_; }

 private:
  void load_codec();
  // Those that have no caption, each once, with the cache asked.
  std::vector<std::string> unknown(const std::vector<std::string>& texts);

  ResolvedModel model_;
  ModelTarget target_;
  magi::QuantisedAs quantised_as_;
  std::optional<uint64_t> random_seed_;
  std::map<std::string, MagiCaption> captions_;
  std::optional<TextCache> text_cache_;
  std::optional<magi::SpecialTokens> special_tokens_;
  std::optional<magi::Transformer> transformer_;
  std::unique_ptr<PlannedAttention> attention_;  // null where there is no GPU
  std::unique_ptr<MagiCodec> codec_;
};

}  // namespace longtake
