// The options schema as command-line flags.
#pragma once

#include <CLI/CLI.hpp>

#include <memory>
#include <string>
#include <vector>

#include "runtime/options.h"

namespace longtake {

// What the command line said, before files and recipes are read.
struct GivenOptions {
  std::vector<OptionAssignment> flags;
  std::vector<std::string> set;   // --set key=value
  std::string config;             // --config FILE
};

// Adds a flag for each entry of the schema but those with the keys `without`, --config, --set and --help-all to the verb.
std::shared_ptr<GivenOptions> add_option_flags(CLI::App& verb, std::vector<std::string> without = {});

// Flags over --set over --config over the model's recipe over built-in defaults; checked as far as single values go.
OptionSet resolve_options(const GivenOptions& given);

}  // namespace longtake
