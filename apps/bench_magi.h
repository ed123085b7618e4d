// What `bench generate` does with a MAGI-1 model.
#pragma once

#include "apps/bench_report.h"
#include "apps/row_clock.h"
#include "runtime/options.h"
#include "runtime/progress.h"
#include "runtime/recipe.h"

namespace longtake {

// Runs the options' video without writing it and adds to `result`, which says what is run already. `random`: with random weights
// instead of the model's files.
void bench_magi(const GenerateOptions& options, const ResolvedModel& model, bool random, const WatchedRows& rows, Progress& progress, BenchResult& result);

}  // namespace longtake
