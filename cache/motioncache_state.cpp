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

void MotionCache::load(const State& state, const at::Device& device) {
  device_ = device;
  chunks_.clear();
  const auto optional = [&](const std::string& name) {
    return state.contains(name) ? state.get(name, 2).to(device) : at::Tensor();
  };
  for (const int64_t id : state.integers("policy/chunks")) {
    ChunkState& chunk = chunks_[static_cast<int>(id)];
    const auto phases = state.integers(fmt::format("policy/phases/{}", id), 2 * branches_);
    for (int b = 0; b < branches_; ++b) {
      chunk.updates.push_back(static_cast<int>(phases[2 * b]));
      chunk.token_phase.push_back(phases[2 * b + 1] != 0);
      chunk.branch.push_back({optional(fmt::format("policy/accumulated/{}/{}", id, b)),
                              optional(fmt::format("policy/weight/{}/{}", id, b))});
    }
  }
  motion_.load(state, device);
}

}  // namespace longtake
