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
#include "runtime/policies.h"
#include "tools/train/clock.h"
#include "tools/train/prompts.h"
#ifdef LONGTAKE_VIDEO_IO
#include "video_io/follow.h"
#include "video_io/frames.h"
#include "video_io/metrics.h"
#endif

namespace longtake::train {
namespace {

CheckpointSource open_source(const std::filesystem::path& file, NameTranslator (*translator)(const Checkpoint&), at::Device device) {
  Checkpoint checkpoint = Checkpoint::open(file);
  NameTranslator translate = translator(checkpoint);
  return CheckpointSource(std::move(checkpoint), std::move(translate), device, at::kFloat);
}

demo::Scene random_held_out_scene(demo::Random& random) {
  for (;;) {
    const demo::Scene scene{static_cast<demo::Shape>(random.below(demo::kShapeNames.size())),
                            static_cast<demo::Colour>(random.below(demo::kColourNames.size())),
                            static_cast<demo::Size>(random.below(demo::kSizeNames.size())),
                            static_cast<demo::Motion>(random.below(demo::kMotionNames.size())),
                            static_cast<demo::Background>(random.below(demo::kBackgroundNames.size()))};
    if (demo::held_out(scene)) return scene;
  }
}

struct Score {
  int clips = 0, colour = 0, shape = 0, motion = 0, all = 0;
  double psnr = 0, ssim = 0, seconds = 0;

  void add(bool right_colour, bool right_shape, bool right_motion, double clip_psnr, double clip_ssim) {
    colour += right_colour, shape += right_shape, motion += right_motion;
    all += right_colour && right_shape && right_motion;
    psnr += clip_psnr, ssim += clip_ssim;
  }
  std::string line() const {
    return fmt::format("colour {} shape {} motion {} all {} of {}; psnr {:.2f} ssim {:.4f} seconds {:.1f}", colour, shape, motion, all,
                       clips, psnr / clips, ssim / clips, seconds / clips);
  }
};

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

  using Clip = std::pair<at::Tensor, double>;  // float32 [3, frames, H, W] on the CPU; seconds of denoising
  const auto generated_clip = [&](const std::string& name, const skyreels::TextKv& text, int clip) -> Clip {
    const BackboneFactory make = [&](const WindowGeometry& geometry) {
      return std::make_unique<skyreels::SkyReelsBackbone>(transformer, std::vector<const skyreels::TextKv*>{&text, &empty}, geometry, 0);
    };
    const PolicyChoice choice = choose_policy(parse_policy(name), /*parity=*/false);
    settings.denoise.attention = choice.attention;
    const auto probe = make(window_geometry(settings, settings.plan.windows[0]));
    const auto policy = make_policy(choice, flow_timesteps(options.steps, options.shift),
                                    {[&](double t) { return probe->step_embedding(t); }, DistanceRule::linear, transformer.config().dim},
                                    settings.denoise.branches());
    PhiloxNoise noise(options.seed + 100 + static_cast<uint64_t>(clip));
    std::vector<at::Tensor> frames;
    GenerateHooks hooks;
    hooks.on_frames = [&](const at::Tensor& more) { frames.push_back(more.cpu().to(at::kFloat)); };
    const RunStats stats = generate(settings, make, vae, *policy, noise, device, hooks);
    return {at::cat(frames, 1), stats.denoise_seconds};
  };
  // What the metric makes of a perfect clip, and of one that went through the VAE alone: the ceilings of the scores.
  const auto drawn_clip = [&](const std::string& name, const demo::Scene& scene, int clip) -> Clip {
    const at::Tensor video =
        demo::Clip(scene, demo::Start::beginning, options.seed + 100 + static_cast<uint64_t>(clip)).frames(0, options.frames);
    if (name == "drawn") return {video, 0};
    return {vae.decode(vae.encode(video.unsqueeze(0).to(device))).squeeze(0).cpu().to(at::kFloat), 0};
  };

  demo::Random random(options.seed);
  std::map<std::string, at::Tensor> videos;
  std::map<std::string, Score> scores;
  for (int i = 0; i < options.count; ++i) {
    const demo::Scene scene = random_held_out_scene(random);
    const std::string prompt = demo::caption(scene);
    const skyreels::TextKv text = text_of(prompt);
    at::Tensor first;  // of the first policy: what the others are compared with
    for (const std::string& name : options.policies) {
      const bool generated = name != "drawn" && name != "vae";
      const auto [video, seconds] = generated ? generated_clip(name, text, i) : drawn_clip(name, scene, i);
      if (options.keep) {
        videos[fmt::format("{:03d} {} {}", i, name, prompt)] = video.to(at::kHalf);
        save_safetensors(options.folder / "samples.safetensors", videos);
      }
      Score& score = scores[name];
      score.seconds += seconds;
      ++score.clips;
#ifdef LONGTAKE_VIDEO_IO
      const at::Tensor shown = to_frames(video);
      if (!first.defined()) first = shown;
      const PromptFollowing right = compare_with_prompt(measure_clip(shown), demo::parse_caption(prompt));
      const FrameQuality quality = compare_frames(first, shown);
      score.add(right.colour.value_or(false), right.shape.value_or(false), right.motion.value_or(false), quality.mean_psnr, quality.mean_ssim);
      log_line(options.folder / "scores.jsonl",
               {{"clip", static_cast<double>(i)}, {"policy", static_cast<double>(&name - options.policies.data())},
                {"colour", right.colour.value_or(false)}, {"shape", right.shape.value_or(false)}, {"motion", right.motion.value_or(false)},
                {"psnr", quality.mean_psnr}, {"ssim", quality.mean_ssim}, {"seconds", seconds}});
#endif
      fmt::print("{:>3} {:<28} {} {}\n", i + 1, name, score.line(), prompt);
      std::fflush(stdout);
    }
  }
}

}  // namespace longtake::train
