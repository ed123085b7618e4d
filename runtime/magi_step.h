// One row of MAGI-1's schedule as work for the backbone, and the velocities that come back as one for each chunk.
// Spec: magi1.md 3.5 and 3.6; the branches are those of models/magi/backbone.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "models/magi/backbone.h"
#include "models/magi/config.h"
#include "runtime/magi_schedule.h"

namespace longtake::magi {

// The branches of a base or distilled model, all of which share one store. texts: of each chunk of the video. own_keys: a base model's branches
// keep keys of their own for the chunks in flight besides.
std::vector<Branch> guidance_branches(bool distilled, const std::vector<const TextKv*>& texts, const TextKv& null_text,
                                      bool own_keys = false);

// The chunks of a row that are denoised.
std::span<const ChunkStep> in_flight(const Row& row);

// The items of a row, branch after branch; chunk_tokens are those of one chunk. What has no weight is left out: the
// caption branch where no chunk in flight needs it, chunks alone whose scale is 1, and, but for `all_copies`, the copy
// of a chunk that sees only itself anyway.
std::vector<WorkItem> work_items(const Row& row, const ScheduleSettings& settings, const Config& config,
                                 int64_t chunk_tokens, bool all_copies = false);

// Whether a base model's branch runs in the first step of every chunk.
bool runs_from_the_start(const RunConfig& run, int branch);

// velocities[i] [C, F, h, w] of items[i], undefined where the chunk is finished -> the guided velocity of each chunk of
// the row that is not finished; undefined where none of its items is there.
std::vector<at::Tensor> guided_velocities(const Row& row, const Config& config, std::span<const WorkItem> items,
                                          std::span<const at::Tensor> velocities);

}  // namespace longtake::magi
