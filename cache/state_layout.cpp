#include "cache/state_layout.h"

#include <limits>

namespace longtake {

std::vector<int> StateLayout::chunks(const State& state, const std::string& name) {
  std::set<int> seen;
  std::vector<int> out;
  for (const int64_t chunk : state.integers(name)) {
    if (chunk < 0 || chunk > std::numeric_limits<int>::max() || !seen.insert(static_cast<int>(chunk)).second)
      state.refuse(fmt::format("'{}' should list chunks, each once, found {}", name, chunk));
    out.push_back(static_cast<int>(chunk));
  }
  return out;
}

std::vector<std::pair<int, int>> StateLayout::chunk_branches(const State& state, const std::string& name) const {
  const std::vector<int64_t> numbers = state.integers(name);
  if (numbers.size() % 2 != 0) state.refuse(fmt::format("'{}' should hold pairs", name));
  std::set<std::pair<int, int>> seen;
  std::vector<std::pair<int, int>> out;
  for (size_t i = 0; i < numbers.size(); i += 2) {
    const int64_t chunk = numbers[i], branch = numbers[i + 1];
    if (chunk < 0 || chunk > std::numeric_limits<int>::max() || branch < 0 || branch >= branches ||
        !seen.insert({static_cast<int>(chunk), static_cast<int>(branch)}).second)
      state.refuse(fmt::format("'{}' should list chunks and their {} branches, each pair once, found ({}, {})", name, branches, chunk, branch));
    out.emplace_back(static_cast<int>(chunk), static_cast<int>(branch));
  }
  return out;
}

int64_t StateLayout::frames_of(const State& state, const std::string& name, int chunk) const {
  if (chunk >= static_cast<int>(frames.size())) state.refuse(fmt::format("'{}' is of a chunk that is none of {}", name, frames.size()));
  return frames[static_cast<size_t>(chunk)];
}

at::Tensor StateLayout::by_token(const State& state, const std::string& name, int chunk, at::ScalarType dtype) const {
  return get(state, name, {frames_of(state, name, chunk), plane}, dtype);
}

at::Tensor StateLayout::get(const State& state, const std::string& name, at::IntArrayRef sizes, at::ScalarType dtype) const {
  return state.get(name, sizes, dtype).to(device);
}

}  // namespace longtake
