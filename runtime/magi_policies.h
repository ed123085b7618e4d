// What a policy asks of the loop of a MAGI-1 run beside its decisions.
#pragma once

#include "runtime/magi_denoise.h"
#include "runtime/policies.h"

namespace longtake::magi {

// `none` runs all that the model does by itself. `causal` leaves out the passes for clean keys and the nearly clean
// copies, as the programs of FlowCache and MotionCache do, and is what these are measured against; policies that save
// steps do likewise, unless they are told `base=none`. Parity brings the reference's quirks. Errors: usage for a policy
// that decides per token on a base model, of whose branches only one stores keys.
void set_up(VideoSettings& settings, const PolicyChoice& choice);

}  // namespace longtake::magi
