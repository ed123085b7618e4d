// What a policy asks of the loop of a MAGI-1 run beside its decisions, and the plans that the loop can follow.
#pragma once

#include "runtime/magi_denoise.h"
#include "runtime/policies.h"

namespace longtake::magi {

// `none` runs all that the model does by itself. `causal` leaves out the passes for clean keys and the nearly clean
// copies, as the programs of FlowCache and MotionCache do, and is what these are measured against; policies that save
// steps do likewise, unless they are told `base=none`. Decisions per token on a base model need keys of each branch of
// guidance. Parity brings the reference's quirks. Errors: usage for decisions per token on a base model with parity, which
// the reference does not have.
void set_up(VideoSettings& settings, const PolicyChoice& choice);

// What a plan for such a run must fit: one window of the video's chunks, those that are given whole its prefix; what is decided for a chunk
// holds for all branches of guidance.
PlanGeometry plan_geometry(const VideoSize& size, int64_t plane, int steps);

// Throws (usage) where the run cannot follow the plan; `name` is its file.
void check_plan(const Plan& plan, const PlanGeometry& run, const std::string& name);

}  // namespace longtake::magi
