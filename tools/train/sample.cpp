#include "tools/train/sample.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include "base/error.h"
#include "models/demo/clips.h"
#include "models/skyreels/backbone.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/names.h"
#include "models/weights/safetensors.h"
#include "runtime/generate.h"
#include "tools/train/clock.h"
#include "tools/train/prompts.h"
#ifdef LONGTAKE_VIDEO_IO
#include "video_io/follow.h"
#include "video_io/frames.h"
#endif

namespace longtake::train {
namespace {

CheckpointSource open_source(const std::filesystem::path& file, NameTranslator (*translator)(const Checkpoint&), at::Device device) {
  Checkpoint checkpoint = Checkpoint::open(file);
  NameTranslator translate = translator(checkpoint);
  return CheckpointSource(std::move(checkpoint), std::move(translate), device, at::kFloat);
}

}  // namespace

void sample(const SampleOptions& options) {
  at::NoGradGuard no_grad;
  const auto& device = options.device;
  auto dit_source = open_source(options.model / "transformer" / "diffusion_pytorch_model.safetensors", dit_translator, device);
  auto vae_source = open_source(options.model / "vae" / "diffusion_pytorch_model.safetensors", vae_translator, device);
  auto text_source = open_source(options.model / "text_encoder" / "model.safetensors", umt5_translator, device);
  const int64_t heads = dit_source.shape("patch_embedding.weight")[0] / 64;
  const skyreels::Transformer transformer(dit_source, skyreels::TransformerConfig::from(dit_source, heads));
  const WanVae vae(vae_source);
  const Prompts prompts(options.model / "tokenizer" / "spiece.model");
  const Umt5Encoder encoder(text_source);
  const auto text_of = [&](const std::string& prompt) {
    return skyreels::prepare_text(transformer, encode_texts(encoder, {prompts.ids(prompt)}).squeeze(0));
  };
  const skyreels::TextKv empty = text_of("");

  GenerateSettings settings;
  settings.plan = plan_windows({.frames = options.frames, .window_frames = 97, .overlap_frames = 17, .chunk = 5});
  settings.height = settings.width = demo::kClipSize;
  settings.steps = options.steps, settings.shift = options.shift, settings.ar_step = options.ar_step;
  settings.denoise.guidance = options.guidance, settings.denoise.prefix_noise = options.prefix_noise;

  demo::Random random(options.seed);
  std::map<std::string, at::Tensor> videos;
  [[maybe_unused]] int colours = 0, shapes = 0, motions = 0;
  for (int i = 0; i < options.count; ++i) {
    demo::Scene scene = demo::random_training_scene(random);
    while (!demo::held_out(scene)) {
      scene = {static_cast<demo::Shape>(random.below(6)), static_cast<demo::Colour>(random.below(8)), static_cast<demo::Size>(random.below(3)),
               static_cast<demo::Motion>(random.below(7)), static_cast<demo::Background>(random.below(6))};
    }
    const std::string prompt = demo::caption(scene);
    const skyreels::TextKv text = text_of(prompt);
    const BackboneFactory make = [&](const WindowGeometry& geometry) {
      return std::make_unique<skyreels::SkyReelsBackbone>(transformer, std::vector<const skyreels::TextKv*>{&text, &empty}, geometry, 0);
    };
    RecomputeAll policy(settings.denoise.branches());
    PhiloxNoise noise(options.seed + 100 + static_cast<uint64_t>(i));
    std::vector<at::Tensor> frames;
    GenerateHooks hooks;
    hooks.on_frames = [&](const at::Tensor& more) { frames.push_back(more.cpu().to(at::kFloat)); };
    generate(settings, make, vae, policy, noise, device, hooks);
    const at::Tensor video = at::cat(frames, 1);
    videos[fmt::format("{:03d} {}", i, prompt)] = video.to(at::kHalf);
#ifdef LONGTAKE_VIDEO_IO
    const ClipMeasurement measured = measure_clip(to_frames(video));
    const PromptFollowing right = compare_with_prompt(measured, demo::parse_caption(prompt));
    colours += right.colour.value_or(false), shapes += right.shape.value_or(false), motions += right.motion.value_or(false);
    log_line(options.folder / "scores.jsonl",
             {{"clip", static_cast<double>(i)}, {"colour", right.colour.value_or(false)}, {"shape", right.shape.value_or(false)},
              {"motion", right.motion.value_or(false)}, {"visible", measured.visible_share}, {"background", measured.background_still}});
    fmt::print("{}/{} {}: colour {}, shape {}, motion {}\n", i + 1, options.count, prompt, colours, shapes, motions);
    std::fflush(stdout);
#endif
    save_safetensors(options.folder / "samples.safetensors", videos);
  }
}

}  // namespace longtake::train
