// Whole videos of a tiny MAGI-1 model, for tests of its denoising loop.
#pragma once

#include <ATen/ops/randn.h>

#include "runtime/magi_policies.h"
#include "runtime/magi_texts.h"
#include "tests/models/magi_tiny.h"

namespace longtake::test {

struct Output {
  at::Tensor latents;
  RunStats stats;
  std::vector<DecisionRecord> decisions;
};

// 8 steps, 4 chunks of 2 latent frames in flight, on latents of 6x4.
struct TinyVideo {
  std::unique_ptr<magi::Transformer> transformer;
  magi::Config config;
  std::vector<at::Tensor> captions{at::randn({7, 12}), at::randn({7, 12})};
  std::vector<int> prompt_of;
  at::Tensor prefix;
  bool parity = false;
  DenoiseHooks hooks;

  explicit TinyVideo(bool distilled, int chunks = 5, at::ScalarType dtype = at::kFloat)
      : transformer(test::tiny_magi(test::tiny_magi_config(), distilled, dtype)) {
    config.model = test::tiny_magi_config();
    config.engine.distilled = distilled;
    config.engine.nearly_clean_threshold = 0.3;
    config.run.guidance_times = {0, 0.0217, 0.1, 0.3, 0.999};
    config.run.prev_chunk_scales = {1.5, 1.5, 1.5, 1, 1};
    config.run.text_scales = {7.5, 7.5, 7.5, 0, 0};
    config.run.chunk_frames = 2;
    config.run.temporal_downsample = 4;
    config.run.key_chunks = {5, 4, 3, 2};
    config.run.steps = 8;
    config.run.window = 4;
    config.run.frames = 8 * chunks;
  }

  magi::VideoSettings settings() const {
    return magi::VideoSettings::of(config, prefix.defined() ? static_cast<int>(prefix.size(1)) : 0);
  }
  Output run(CachePolicy& policy, const magi::VideoSettings& settings, const State* resume = nullptr) const {
    const magi::VideoTexts texts(*transformer, captions, prompt_of, {}, {.high_quality = false, .duration = false},
                                 settings.size);
    const magi::MagiBackbone backbone(*transformer, texts.branches(settings.own_keys), texts.none(),
                                      magi::video_geometry(settings.size, 6, 4));
    Output out;
    DenoiseHooks all = hooks;
    all.on_decision = [&](const DecisionRecord& d) { out.decisions.push_back(d); };
    PhiloxNoise noise(5);
    out.latents = magi::denoise_video(backbone, policy, settings, prefix, noise, at::kCPU, out.stats, all, resume);
    return out;
  }
  PolicyChoice choice(const std::string& policy) const { return choose_policy(parse_policy(policy), parity, PolicyFamily::latent); }
  Output run(const std::string& policy, const State* resume = nullptr) const { return run(choice(policy), resume); }
  Output run(const PolicyChoice& choice, const State* resume = nullptr) const {
    magi::VideoSettings set = settings();
    magi::set_up(set, choice);
    return run(*make_latent_policy(choice), set, resume);
  }
};

// With which each policy both computes and saves here.
inline const std::vector<std::string> kSavingLatentPolicies{
    "teacache:ret=1,threshold=0.02", "flowcache:warmup=0,threshold=0.05",
    "motioncache:warmup=0,chunk_steps=2,threshold=0.02,token_threshold=0.03,floor=0.2",
    "motioncache:warmup=0,chunk_steps=1,threshold=0.02,token_threshold=0.03,vote=0.5",
    "motioncache:warmup=0,chunk_steps=0,token_threshold=0.05,reuse_first=0.5,reuse_last=0.2"};
// The same on base models, whose guided latents move further.
inline const std::vector<std::string> kSavingOnBase{
    "teacache:ret=1,threshold=0.5", "flowcache:warmup=0,threshold=1",
    "motioncache:warmup=0,chunk_steps=2,threshold=0.5,token_threshold=0.5,floor=0.2",
    "motioncache:warmup=0,chunk_steps=1,threshold=0.5,token_threshold=0.5,vote=0.5",
    "motioncache:warmup=0,chunk_steps=0,token_threshold=0.6,reuse_first=0.5,reuse_last=0.2",
    "motioncache:warmup=0,chunk_steps=1,threshold=0.5,token_threshold=0.5,predict=on"};

}  // namespace longtake::test
