// A model that is loaded once and serves any number of runs: what `generate`, `compare` and batches share.
//
// Texts come first: encode() loads the text encoder, encodes all texts that are not known yet and frees it again, so that it and
// the transformer never stand in memory together. With a cache of texts the encoder is loaded for those alone that are not in it.
// The transformer and the VAE are loaded by load(), or by the first run().
//
// With fp8 products the first run tries attention in fp8 on a small case, and stays with bf16 attention where cuDNN cannot do it, then one
// chunk of its first step; where that is not finite, the model is loaded again without fp8. Runs that compress keys and values keep
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

namespace longtake {

// One run, resolved: what to make, and how.
struct RunRequest {
  std::vector<std::string> prompts;  // one, or those that settings.texts counts
  std::string negative;
  uint64_t seed = 0;
  bool parity = false;  // noise from LibTorch's CPU generator in the reference's order instead of our own
  int fps = 24;
  PolicyChoice policy;
  GenerateSettings settings;

  std::vector<std::string> all_texts() const;  // that must be encoded
};

// The request that the options describe; a duration becomes frames, and `note` says what was rounded. The seed must be set
// unless the request is only planned.
RunRequest make_request(const GenerateOptions& options, std::string* note = nullptr);

// How steps look to policies on this model: `embedding` gives the conditioning vector of a timestep.
StepModel step_model(const Recipe& recipe, std::function<at::Tensor(double)> embedding, int64_t dim);

class Engine {
 public:
  // The model's files, which must be there; or with `random_seed` its recipe's sizes with random weights and texts
  // (random_model.h), for measurements.
  Engine(ResolvedModel model, const ModelTarget& target, std::optional<uint64_t> random_seed = std::nullopt);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Lets texts come from the user's cache folder, and go there. `on_note`: what the user should know.
  void cache_texts(std::function<void(const std::string&)> on_note);

  // Encodes the texts that are new.
  void encode(const std::vector<std::string>& texts);
  const EncodedText& text(const std::string& text) const;  // its context is in host memory

  void load();
  bool loaded() const { return transformer_.has_value(); }

  // How the request's steps look to policies; valid while the engine is. Its texts must have been encoded.
  StepModel steps(const RunRequest& request);

  // Runs all windows; texts must have been encoded, and the run's hooks get latents, frames and decisions as they come. With a
  // run folder, the run is kept there and goes on from what is there (generate.h). `policy` decides instead of the request's.
  RunStats run(const RunRequest& request, const GenerateHooks& hooks, RunFolder* folder = nullptr, CachePolicy* policy = nullptr);

  const ResolvedModel& model() const { return model_; }
  const ModelTarget& target() const { return target_; }  // as it is: fp8 is false once it was given up
  int64_t text_length() const;  // tokens of a prompt that the model reads
  const skyreels::Transformer& transformer() const { return *transformer_; }
  const WanVae& vae() const { return *vae_; }

 private:
  BackboneFactory backbones(const RunRequest& request);
  void load_transformer();
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
  std::unique_ptr<Fp8Attention> fp8_attention_;  // null where attention is in the weights' precision
};

}  // namespace longtake
