// What `bench generate` does with a MAGI-1 model.
#pragma once

#include "apps/bench_report.h"
#include "runtime/options.h"
#include "runtime/progress.h"
#include "runtime/recipe.h"

namespace longtake {

// Runs the options' video without writing it and adds to `result`, which says what is run already. `random`: with random weights
// instead of the model's files. Stops after `rows` rows; 0: none.
void bench_magi(const GenerateOptions& options, const ResolvedModel& model, bool random, int rows, Progress& progress, BenchResult& result);

}  // namespace longtake
