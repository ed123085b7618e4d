#include "tools/train/latent_pool.h"

#include <ATen/ops/empty.h>

#include "tools/train/threads.h"

namespace longtake::train {

LatentPool::LatentPool(const MomentEncoder& encoder, int clips, int64_t frames, uint64_t seed, const at::Device& device, int threads) {
  demo::Random random(seed);
  for (const demo::Start start : {demo::Start::beginning, demo::Start::anywhere}) {
    std::vector<demo::Clip> drawn;
    Part& part = parts[start];
    for (int i = 0; i < clips; ++i) {
      drawn.emplace_back(demo::random_training_scene(random), start, random.next());
      part.scenes.push_back(drawn.back().scene());
    }
    constexpr int64_t edge = demo::kClipSize / 8;
    const at::Tensor latents = at::empty({clips, kLatentChannels, frames, edge, edge}, at::kHalf);
    // One latent frame at a time: whole clips are so large that the allocator would fetch and return their pages each time.
    on_threads(threads, clips, [&](int64_t i) {
      for (int64_t f = 0; f < frames; ++f) {
        const at::Tensor video = f == 0 ? drawn[i].frames(0, 1) : drawn[i].frames(static_cast<int>(4 * f - 3), 4);
        latents[i].select(1, f).copy_(encoder.encode(video.unsqueeze(0), f == 0).squeeze(0).squeeze(1));
      }
    });
    part.latents = latents.to(device);
  }
}

}  // namespace longtake::train
