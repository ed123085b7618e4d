// Attention by our own kernel for Hopper (attention/cuda/flash.cuh): all sequences in one launch, however long each is, without a plan.
#pragma once

#include <span>
#include <vector>

#include "attention/attend.h"

namespace longtake {

// Whether the kernel takes this sequence: on a GPU of compute capability 9.0, dense bfloat16, float16 or e4m3 with heads of 128 channels that begin at
// multiples of 16 bytes, without a bias, and at least one query and key.
bool flash_takes(const Sequence& sequence);

// Attention of each sequence over all of its keys, as attend() gives it (e4m3: as PlannedAttention), to out [n, heads, 128] of each, dense, in q's
// dtype, which overlaps no input. All sequences must be taken and of one dtype, device and number of heads.
void flash_attend_into(std::span<const at::Tensor> out, std::span<const Sequence> sequences);

// The same in tensors of its own.
std::vector<at::Tensor> flash_attend(std::span<const Sequence> sequences);

}  // namespace longtake
