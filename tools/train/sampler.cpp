#include "tools/train/sampler.h"

#include <ATen/ops/cat.h>

#include <optional>

#include "base/error.h"
#include "models/demo/clips.h"
#include "models/skyreels/backbone.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/names.h"
#include "runtime/families.h"
#include "runtime/generate.h"
#include "runtime/magi_engine.h"
#include "runtime/policies.h"
#include "tools/train/prompts.h"

namespace longtake::train {
namespace {

CheckpointSource open_source(const std::filesystem::path& file, NameTranslator (*translator)(const Checkpoint&), at::Device device) {
  Checkpoint checkpoint = Checkpoint::open(file);
  NameTranslator translate = translator(checkpoint);
  return CheckpointSource(std::move(checkpoint), std::move(translate), device, at::kFloat);
}

class SkyreelsSampler final : public Sampler {
 public:
  explicit SkyreelsSampler(const SampleOptions& options)
      : options_(options), prompts_(options.model / "tokenizer" / "spiece.model") {
    auto dit = open_source(options.model / "transformer" / "diffusion_pytorch_model.safetensors", dit_translator, options.device);
    auto vae = open_source(options.model / "vae" / "diffusion_pytorch_model.safetensors", vae_translator, options.device);
    auto text = open_source(options.model / "text_encoder" / "model.safetensors", umt5_translator, options.device);
    transformer_.emplace(dit, skyreels::TransformerConfig::from(dit, dit.shape("patch_embedding.weight")[0] / 64));
    vae_.emplace(vae), encoder_.emplace(text);
    empty_ = text_of("");
    settings_.plan = plan_windows({.frames = options.frames, .window_frames = 97, .overlap_frames = 17, .chunk = 5});
    settings_.height = settings_.width = demo::kClipSize;
    settings_.steps = options.steps, settings_.shift = options.shift, settings_.ar_step = options.ar_step;
    settings_.denoise.guidance = options.guidance, settings_.denoise.prefix_noise = options.prefix_noise;
  }

  int frames() const override { return options_.frames; }

  Clip generate(const std::string& name, const std::string& prompt, uint64_t seed) override {
    const skyreels::TextKv text = text_of(prompt);
    const BackboneFactory make = [&](const WindowGeometry& geometry) {
      return std::make_unique<skyreels::SkyReelsBackbone>(*transformer_, std::vector<const skyreels::TextKv*>{&text, &empty_}, geometry, 0);
    };
    const PolicyChoice choice = choose_policy(parse_policy(name), /*parity=*/false);
    settings_.denoise.attention = choice.attention;
    const auto probe = make(window_geometry(settings_, settings_.plan.windows[0]));
    const auto policy = make_policy(choice, flow_timesteps(options_.steps, options_.shift),
                                    {[&](double t) { return probe->step_embedding(t); }, DistanceRule::linear, transformer_->config().dim},
                                    settings_.denoise.branches());
    PhiloxNoise noise(seed);
    std::vector<at::Tensor> frames;
    GenerateHooks hooks;
    hooks.on_frames = [&](const at::Tensor& more) { frames.push_back(more.cpu().to(at::kFloat)); };
    const RunStats stats = longtake::generate(settings_, make, *vae_, *policy, noise, options_.device, hooks);
    return {at::cat(frames, 1), stats.denoise_seconds};
  }

  at::Tensor through_vae(const at::Tensor& video) override {
    return vae_->decode(vae_->encode(video.unsqueeze(0).to(options_.device))).squeeze(0).cpu().to(at::kFloat);
  }

 private:
  skyreels::TextKv text_of(const std::string& prompt) const {
    return skyreels::prepare_text(*transformer_, encode_texts(*encoder_, {prompts_.ids(prompt)}).squeeze(0));
  }

  const SampleOptions options_;
  const Prompts prompts_;
  std::optional<skyreels::Transformer> transformer_;
  std::optional<WanVae> vae_;
  std::optional<Umt5Encoder> encoder_;
  skyreels::TextKv empty_;
  GenerateSettings settings_;
};

// The recipe's settings, but for those that options.set names.
class MagiSampler final : public Sampler {
 public:
  MagiSampler(const SampleOptions& options, const ResolvedModel& model)
      : options_(options), recipe_(model.recipe), engine_(model, {options.device, at::kFloat}, magi::QuantisedAs::working_dtype),
        codec_(load_magi_codec(model, engine_.target())) {}

  int frames() const override { return request("none", "", 0).frames(); }

  Clip generate(const std::string& policy, const std::string& prompt, uint64_t seed) override {
    engine_.encode({prompt});
    std::vector<at::Tensor> frames;
    GenerateHooks hooks;
    hooks.on_frames = [&](const at::Tensor& more) { frames.push_back(more.cpu().to(at::kFloat)); };
    const RunStats stats = engine_.run(request(policy, prompt, seed), hooks);
    return {at::cat(frames, 1), stats.denoise_seconds};
  }

  at::Tensor through_vae(const at::Tensor& video) override {
    return codec_->decoder()->decode(codec_->encode(video)).cpu().to(at::kFloat);
  }

 private:
  MagiRequest request(const std::string& policy, const std::string& prompt, uint64_t seed) const {
    OptionSet set;
    set.apply_recipe(recipe_.defaults);
    for (const std::string& assignment : options_.set) set.set(assignment);
    set.set("policy=" + policy), set.set("prompt=" + prompt), set.set(fmt::format("seed={}", seed));
    check_options(set, recipe_);
    return make_magi_request(recipe_, set.values());
  }

  const SampleOptions options_;
  const Recipe recipe_;
  MagiEngine engine_;
  const std::unique_ptr<MagiCodec> codec_;
};

}  // namespace

std::unique_ptr<Sampler> open_sampler(const SampleOptions& options) {
  const ResolvedModel model = resolve_model(std::filesystem::absolute(options.model).string(), default_search());
  if (is_magi(model.recipe)) return std::make_unique<MagiSampler>(options, model);
  if (!options.set.empty()) fail_usage("--set is for models of MAGI-1; this one has --steps, --shift, --guidance, --ar-step and --frames");
  return std::make_unique<SkyreelsSampler>(options);
}

}  // namespace longtake::train
