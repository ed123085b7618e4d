// A MAGI-1 model that is loaded once and serves any number of runs: what engine.h is for SkyReels-V2.
//
// Texts come first, so that the text encoder and the transformer never stand in memory together; the transformer and the VAE
// are loaded by load(), or by the first run(). A video is one run of the schedule, however long it is.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/denoise_hooks.h"
#include "runtime/magi_codec.h"
#include "runtime/magi_denoise.h"
#include "runtime/magi_model.h"
#include "runtime/policies.h"

namespace longtake {

// One run, resolved.
struct MagiRequest {
  std::vector<std::string> prompts;  // one, or those that `prompt_of` counts
  std::vector<int> prompt_of;        // which of them each chunk follows, but for those that are given whole; empty: all the first
  uint64_t seed = 0;
  magi::Config config;               // magi_recipe.h
  magi::TextSettings special_tokens;
  PolicyChoice policy;  // of the latent family
  // [3, n, H, W] in [-1, 1]: a picture (n = 1), or the end of a video, 4k frames (4k + 1 with Wan's VAE); undefined for
  // none. A picture is shown, a video's frames are not.
  at::Tensor given;
  // Decode finished chunks in a thread of its own while later ones denoise: the same bits, sooner. Off, all are decoded when denoising
  // is done, so that seconds of both can be told apart.
  bool decode_ahead = false;

  int prefix_frames() const;                // latent frames
  magi::VideoSettings settings() const;
  int frames() const;                       // that the run hands out
};

// The request that the options describe, whose `given` is still to come; `note` says what was rounded. Errors: usage.
MagiRequest make_magi_request(const Recipe& recipe, const GenerateOptions& options, std::string* note = nullptr);

struct MagiHooks {
  DenoiseHooks denoise;
  std::function<void()> on_start;                             // before the first row, with everything else done
  std::function<void(const at::Tensor& latents)> on_latents;  // of the whole video [C, F, h, w], given frames included
  // [3, n, H, W] in [-1, 1], in order. Called from the decoding thread with decode_ahead.
  std::function<void(const at::Tensor& frames)> on_frames;
  std::function<bool()> should_stop;  // asked between rows: true ends the run with an Error (interrupted), with all that is finished decoded
};

class MagiEngine {
 public:
  // The model's files, which must be there; or with `random_seed` its recipe's sizes with random weights and texts.
  MagiEngine(ResolvedModel model, const ModelTarget& target, magi::QuantisedAs quantised_as, std::optional<uint64_t> random_seed = std::nullopt);
  MagiEngine(const MagiEngine&) = delete;
  MagiEngine& operator=(const MagiEngine&) = delete;

  // Encodes the texts that are new.
  void encode(const std::vector<std::string>& texts);
  const MagiCaption& caption(const std::string& text) const;

  void load();

  // Its prompts must have been encoded.
  RunStats run(const MagiRequest& request, const MagiHooks& hooks);

  const ModelTarget& target() const { return target_; }
  const magi::Transformer& transformer() const { return *transformer_; }

 private:
  ResolvedModel model_;
  ModelTarget target_;
  magi::QuantisedAs quantised_as_;
  std::optional<uint64_t> random_seed_;
  std::map<std::string, MagiCaption> captions_;
  std::optional<magi::SpecialTokens> special_tokens_;
  std::optional<magi::Transformer> transformer_;
  std::unique_ptr<MagiCodec> codec_;
};

}  // namespace longtake
