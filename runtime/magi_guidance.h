// MAGI-1's guidance: how the velocities of a step's branches become one. Spec: magi1.md 3.6.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/magi/config.h"

namespace longtake::magi {

// Of one chunk at one timestep.
struct GuidanceScales {
  double prev_chunks = 1;  // weight of the chunks before it against the chunk alone
  double text = 0;         // weight of the caption against none

  // Whether the branch has any weight.
  bool needs_text() const { return text != 0; }
  bool needs_alone() const { return prev_chunks != 1; }
  bool needs_null_text() const { return prev_chunks != text; }
};

// From the interval of t that `t` lies in.
GuidanceScales guidance_scales(const RunConfig& run, float t);

// Base models: velocities of one chunk with its caption, without one, and alone without one. A branch without weight
// may be undefined.
at::Tensor guide(const GuidanceScales& scales, const at::Tensor& text, const at::Tensor& null_text,
                 const at::Tensor& alone);

// Distilled models: the share of the nearly clean chunk's copy, which saw only itself.
constexpr double kCopyShare = 0.3;
at::Tensor blend_copy(const at::Tensor& velocity, const at::Tensor& copy);

}  // namespace longtake::magi
