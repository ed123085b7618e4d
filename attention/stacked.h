// Several tensors of one buffer as one tensor with a dimension more, without a copy.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "attention/attend.h"

namespace longtake {

// The part of all sequences, [sequences, ...], where they are views of one buffer with one shape, dense within and at equal distances
// (they may overlap); else undefined. One sequence alone is [1, ...], if it is dense.
at::Tensor stacked(std::span<const Sequence> sequences, at::Tensor Sequence::*part);

}  // namespace longtake
