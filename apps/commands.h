// The verbs of the program: each adds its subcommand to the command line and runs when it was named.
#pragma once

#include <CLI/CLI.hpp>

#include "runtime/options.h"

namespace longtake {

inline constexpr const char* kVersion = LONGTAKE_VERSION;

void add_generate(CLI::App& program);
// What generate does with options from flags and --config. `extends`: there must be a video to go on from.
void run_generate(OptionSet options, bool extends);
void add_decode(CLI::App& program);
void add_models(CLI::App& program);
void add_inspect(CLI::App& program);
void add_convert(CLI::App& program);
void add_doctor(CLI::App& program);
void add_plan(CLI::App& program);
void add_calibrate(CLI::App& program);
void add_bench(CLI::App& program);
#ifdef LONGTAKE_VIDEO_IO
void add_extend(CLI::App& program);
void add_metrics(CLI::App& program);
void add_batch(CLI::App& program);
void add_vbench(CLI::App& program);
void add_compare(CLI::App& program);
#endif

}  // namespace longtake
