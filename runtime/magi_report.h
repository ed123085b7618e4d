// What a MAGI-1 run will do and take, before it starts: the counterpart of plan_report (report.h).
#pragma once

#include <string>

#include "runtime/magi_engine.h"
#include "runtime/memory_plan.h"

namespace longtake {

struct MagiWork {
  int rows = 0;
  double flops = 0;           // of the transformer's blocks, with nothing reused
  int64_t forwards = 0;       // chunks in a branch in a row
  int64_t kept_chunks = 0;    // whose keys and values stand in memory at once
};

// `text_length`: rows of the caption that count.
MagiWork magi_work(const MagiRequest& request, int64_t text_length);

std::string magi_plan_report(const MagiRequest& request, const Recipe& recipe, const MemoryPlan& memory);

}  // namespace longtake
