// What MotionCache keeps across a resume.
#include "cache/motioncache.h"

namespace longtake {

void MotionCache::save(State& state) const {
  std::vector<int64_t> chunks;
  for (const auto& [id, chunk] : chunks_) {
    chunks.push_back(id);
    std::vector<int64_t> phases;
    for (size_t b = 0; b < chunk.branch.size(); ++b) {
      phases.insert(phases.end(), {chunk.updates[b], chunk.token_phase[b]});
      state.put(fmt::format("policy/accumulated/{}/{}", id, b), chunk.branch[b].accumulated);
      state.put(fmt::format("policy/weight/{}/{}", id, b), chunk.branch[b].weight);
    }
    state.put_integers(fmt::format("policy/phases/{}", id), phases);
  }
  state.put_integers("policy/chunks", chunks);
  motion_.save(state);
}

void MotionCache::load(const State& state, const StateLayout& layout) {
  device_ = layout.device;
  chunks_.clear();
  for (const int id : StateLayout::chunks(state, "policy/chunks")) {
    ChunkState& chunk = chunks_[id];
    const auto phases = state.integers(fmt::format("policy/phases/{}", id), 2 * static_cast<size_t>(branches_));
    for (int b = 0; b < branches_; ++b) {
      const std::string accumulated = fmt::format("policy/accumulated/{}/{}", id, b), weight = fmt::format("policy/weight/{}/{}", id, b);
      const bool per_token = phases[2 * static_cast<size_t>(b) + 1] != 0;
      chunk.updates.push_back(static_cast<int>(phases[2 * static_cast<size_t>(b)]));
      chunk.token_phase.push_back(per_token);
      // Who decides per token has a weight for each.
      chunk.branch.push_back({state.contains(accumulated) ? layout.by_token(state, accumulated, id) : at::Tensor(),
                              per_token || state.contains(weight) ? layout.by_token(state, weight, id) : at::Tensor()});
    }
  }
  motion_.load(state, layout);
}

}  // namespace longtake
