// How far a chunk's embedded latents moved since the row before: a step distance that depends on what is generated, where that of
// step_distance.h follows from the schedule. Spec: motioncache.md 2.2.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>

#include "cache/policy.h"
#include "cache/state_layout.h"

namespace longtake {

class InputChange {
 public:
  // By token, [frames, plane] float32, F' being the embedded latents of the row before; undefined for a chunk that is new.
  struct Change {
    at::Tensor moved;  // mean|F - F'| over dim
    at::Tensor size;   // mean|F'| over dim

    bool defined() const { return moved.defined(); }
    double of_chunk() const;       // over all tokens, relative; waits for the device
    at::Tensor of_tokens() const;  // [frames, plane], each relative to its own size
  };

  // Forgets the chunks that the row does not move.
  void begin_row(const RowContext& row);
  // embedded [frames, plane, dim]; is kept for the next row.
  Change measure(int chunk, const at::Tensor& embedded);
  void forget() { before_.clear(); }

  // "policy/input/CHUNK" and the list of them.
  void save(State& state) const;
  void load(const State& state, const StateLayout& layout);

 private:
  std::map<int, at::Tensor> before_;
};

}  // namespace longtake
