// The options schema as command-line flags.
#pragma once

#include <CLI/CLI.hpp>

#include <memory>
#include <set>

#include "runtime/options.h"

namespace longtake {

// What the command line said, before files and recipes are read.
struct GivenOptions {
  std::vector<OptionAssignment> flags;
  std::vector<std::string> set;   // --set key=value
  std::string config;             // --config FILE
};

// Adds a flag for each entry of the schema, --config, --set and --help-all to the verb. Entries named in `without` get no flag: the verb
// has its own way to say them.
std::shared_ptr<GivenOptions> add_option_flags(CLI::App& verb, const std::set<std::string>& without = {});

// Flags over --set over --config over the model's recipe over built-in defaults; checked as far as single values go.
OptionSet resolve_options(const GivenOptions& given);

}  // namespace longtake
