#include "video_io/work_map.h"

#include "base/error.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

namespace longtake {

void WorkMap::add(const DecisionRecord& record) {
  const RunLayout::Window& window = layout_.windows.at(record.window);
  if (record.chunk < window.given || record.step >= window.steps) return;
  records_.push_back(record);
}

std::vector<double> WorkMap::by_step() const {
  const auto steps = static_cast<size_t>(layout_.windows.front().steps);
  std::vector<double> recomputed(steps), all(steps);
  for (const DecisionRecord& record : records_) {
    recomputed.at(record.step) += static_cast<double>(record.recomputed);
    all.at(record.step) += static_cast<double>(record.tokens);
  }
  for (size_t s = 0; s < all.size(); ++s)
    if (all[s] > 0) recomputed[s] /= all[s];
  return recomputed;
}

at::Tensor WorkMap::by_place() const {
  const int64_t height = layout_.height / 2, width = layout_.width / 2, plane = height * width;
  at::Tensor video = at::zeros({layout_.latent_frames, plane}, at::kFloat);
  for (size_t w = 0; w < layout_.windows.size(); ++w) {
    const auto& chunks = layout_.windows[w].chunks;
    for (size_t c = 0; c < chunks.size(); ++c) {
      const int64_t frames = chunks[c].frames;
      at::Tensor counts = at::zeros({frames * plane}, at::kFloat);
      double decisions = 0;
      for (const DecisionRecord& record : records_) {
        if (record.window != static_cast<int>(w) || record.chunk != static_cast<int>(c)) continue;
        LONGTAKE_CHECK(record.tokens == frames * plane, "expected {} tokens in a chunk, found {}", frames * plane,
                       record.tokens);
        const TokenSet& tokens = record.decision.tokens;
        ++decisions;
        if (tokens.is_all())
          counts += 1;
        else if (!tokens.is_none())
          counts.index_add_(0, tokens.indices(frames, plane, at::kCPU), at::ones({record.recomputed}, at::kFloat));
      }
      if (decisions == 0) continue;
      const at::Tensor share = (counts / decisions).view({frames, plane});
      for (int64_t f = 0; f < frames; ++f) {
        const int64_t latent = chunks[c].place + f;
        if (latent >= 0 && latent < video.size(0)) video[latent].copy_(share[f]);
      }
    }
  }
  return video.view({video.size(0), height, width});
}

}  // namespace longtake
