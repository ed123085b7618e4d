// The shapes that a run's state must have. A record of a run folder was a file: its owner holds it against this before it takes it up, so
// that a record of another run, or a forged one, is refused (bad_file) and not found out in the middle of a row.
#pragma once

#include <utility>
#include <vector>

#include "cache/state.h"

namespace longtake {

struct StateLayout {
  // Of rows that belong to tokens.
  struct Rows {
    int64_t width = 0;
    at::ScalarType dtype = at::kFloat;
  };

  std::vector<int64_t> frames;   // latent frames of the window's chunks
  int64_t plane = 0;             // tokens of one latent frame
  int branches = 1;
  Rows embedded;                 // CachePolicy::input
  Rows observed;                 // CachePolicy::observe
  Rows residual;                 // ResidualCache
  at::Device device = at::kCPU;  // where entries go

  // What `name` lists, each once: chunks, or pairs (chunk, branch). Chunks of earlier windows may be among them: a longer window has more.
  static std::vector<int> chunks(const State& state, const std::string& name);
  std::vector<std::pair<int, int>> chunk_branches(const State& state, const std::string& name) const;

  // Of the entry `name` of a chunk, which must be one of the window's.
  int64_t frames_of(const State& state, const std::string& name, int chunk) const;
  // [frames, plane]: one value for each of the chunk's tokens.
  at::Tensor by_token(const State& state, const std::string& name, int chunk, at::ScalarType dtype = at::kFloat) const;
  at::Tensor get(const State& state, const std::string& name, at::IntArrayRef sizes, at::ScalarType dtype) const;
};

}  // namespace longtake
