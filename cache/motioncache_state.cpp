// What MotionCache keeps across a resume.
#include "cache/motioncache.h"

namespace longtake {

void MotionCache::save(State& state) const {
  std::vector<int64_t> chunks, last;
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
  for (const auto& [key, frame] : last_frame_) {
    last.insert(last.end(), {key.first, key.second});
    state.put(fmt::format("policy/last_frame/{}/{}", key.first, key.second), frame);
  }
  state.put_integers("policy/chunks", chunks);
  state.put_integers("policy/last_frames", last);
}

void MotionCache::load(const State& state, const at::Device& device) {
  device_ = device;
  chunks_.clear();
  last_frame_.clear();
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
  const auto last = state.integers("policy/last_frames");
  if (last.size() % 2 != 0) state.refuse("'policy/last_frames' should hold pairs");
  for (size_t i = 0; i < last.size(); i += 2)
    last_frame_[{static_cast<int>(last[i]), static_cast<int>(last[i + 1])}] =
        state.get(fmt::format("policy/last_frame/{}/{}", last[i], last[i + 1]), 2).to(device);
}

}  // namespace longtake
