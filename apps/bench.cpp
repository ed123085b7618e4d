// longtake bench: how fast this machine is, end to end and by operator.
#include "apps/bench.h"

#include "apps/commands.h"

namespace longtake {

void add_bench(CLI::App& program) {
  auto* verb = program.add_subcommand("bench", "Measures the speed and memory of models and operators on this machine");
  verb->require_subcommand(1);
  add_bench_generate(*verb);
  add_bench_ops(*verb);
}

}  // namespace longtake
