#include "tools/train/sample.h"

#include <ATen/core/grad_mode.h>

#include "base/error.h"
#include "models/demo/clips.h"
#include "models/weights/safetensors.h"
#include "tools/train/clock.h"
#include "tools/train/sampler.h"
#ifdef LONGTAKE_VIDEO_IO
#include "video_io/follow.h"
#include "video_io/frames.h"
#include "video_io/metrics.h"
#endif

namespace longtake::train {
namespace {

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
  const std::unique_ptr<Sampler> sampler = open_sampler(options);
  // What the metric makes of a perfect clip, and of one that went through the VAE alone: the ceilings of the scores.
  const auto drawn_clip = [&](const std::string& name, const demo::Scene& scene, uint64_t seed) -> Sampler::Clip {
    const at::Tensor video = demo::Clip(scene, demo::Start::beginning, seed).frames(0, sampler->frames());
    return {name == "drawn" ? video : sampler->through_vae(video)};
  };

  demo::Random random(options.seed);
  std::map<std::string, at::Tensor> videos;
  std::map<std::string, Score> scores;
  for (int i = 0; i < options.count; ++i) {
    const demo::Scene scene = random_held_out_scene(random);
    const std::string prompt = demo::caption(scene);
    const uint64_t seed = options.seed + 100 + static_cast<uint64_t>(i);
    at::Tensor first;  // of the first policy: what the others are compared with
    for (const std::string& name : options.policies) {
      const bool generated = name != "drawn" && name != "vae";
      const auto [video, seconds] = generated ? sampler->generate(name, prompt, seed) : drawn_clip(name, scene, seed);
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
