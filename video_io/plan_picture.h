// A plan as a picture: a row a chunk, a column a step.
#pragma once

#include <ATen/core/Tensor.h>

#include "cache/plan.h"

namespace longtake {

// uint8 [H, W, 3]. Dark blue: all tokens recomputed; light grey: all reused; light orange: all predicted; shades between for shares;
// red: the plan says nothing. Errors: usage for more rows than a picture holds.
at::Tensor draw_plan(const PlanGrid& grid);

}  // namespace longtake
