// Tables for people: the plan before a run and what it computed after it.
#pragma once

#include <string>
#include <vector>

#include "runtime/plan_input.h"
#include "runtime/run_stats.h"

namespace longtake {

// Tokens recomputed, reused and predicted by chunk and phase, FLOPs spent and saved, seconds by stage.
std::string stats_table(const RunStats& stats);

// "chunks 1-3 'a red circle', chunk 4 'a blue star'": which of the prompts each chunk follows, chunks counted from `first`.
std::string prompts_by_chunk(const std::vector<std::string>& prompts, const std::vector<int>& of_chunk, int first = 1);

// Windows, chunks, rows, FLOPs without reuse (and of full attention), decisions known in advance, predicted peak memory.
std::string plan_report(const PlanInput& input);

}  // namespace longtake
