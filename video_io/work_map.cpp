#include "video_io/work_map.h"

#include "base/error.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

namespace longtake {

void WorkMap::add(const DecisionRecord& record) {
  const WindowSpan& window = settings_.plan.windows.at(record.window);
  const bool prefix = record.chunk < prefix_chunks(window, settings_.plan.request.chunk);
  if (prefix || record.step >= settings_.steps) return;
  records_.push_back(record);
}

std::vector<double> WorkMap::by_step() const {
  std::vector<double> recomputed(settings_.steps), all(settings_.steps);
  for (const DecisionRecord& record : records_) {
    recomputed.at(record.step) += static_cast<double>(record.recomputed);
    all.at(record.step) += static_cast<double>(record.tokens);
  }
  for (size_t s = 0; s < all.size(); ++s)
    if (all[s] > 0) recomputed[s] /= all[s];
  return recomputed;
}

at::Tensor WorkMap::by_place() const {
  const int64_t height = settings_.height / 16, width = settings_.width / 16, plane = height * width;
  at::Tensor video = at::zeros({settings_.plan.latent_frames, plane}, at::kFloat);
  for (const WindowSpan& window : settings_.plan.windows) {
    const auto chunks = window_chunks(window, settings_.plan.request.chunk);
    // Latent frame L of a later window is frame `first + L` of the video.
    const int64_t first = window.index == 0 ? 0 : latent_of_frame(window.first_frame) - settings_.plan.overlap_latents;
    for (size_t c = 0; c < chunks.size(); ++c) {
      const int64_t frames = chunks[c].frames;
      at::Tensor counts = at::zeros({frames * plane}, at::kFloat);
      double decisions = 0;
      for (const DecisionRecord& record : records_) {
        if (record.window != window.index || record.chunk != static_cast<int>(c)) continue;
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
        const int64_t latent = first + latent_of_chunk(window, chunks[c]) + f;
        if (latent >= 0 && latent < video.size(0)) video[latent].copy_(share[f]);
      }
    }
  }
  return video.view({video.size(0), height, width});
}

}  // namespace longtake
