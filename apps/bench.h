// The subcommands of `longtake bench`.
#pragma once

#include <CLI/CLI.hpp>

namespace longtake {

void add_bench_generate(CLI::App& bench);
void add_bench_ops(CLI::App& bench);

}  // namespace longtake
