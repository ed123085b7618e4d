// The options schema as command-line flags.
#pragma once

#include <CLI/CLI.hpp>

#include <memory>

#include "runtime/options.h"

namespace longtake {

// What the command line said, before files and recipes are read.
struct GivenOptions {
  std::vector<OptionAssignment> flags;
  std::vector<std::string> set;   // --set key=value
  std::string config;             // --config FILE
};

// Adds one entry of the schema as a flag that appends to `flags`.
CLI::Option* add_option_flag(CLI::App& verb, const OptionInfo& info, std::shared_ptr<std::vector<OptionAssignment>> flags);

// Adds a flag for each entry of the schema, --config, --set and --help-all to the verb.
std::shared_ptr<GivenOptions> add_option_flags(CLI::App& verb);

// What was given alone: flags over --set over --config over built-in defaults.
OptionSet given_options(const GivenOptions& given);

// Flags over --set over --config over the model's recipe over built-in defaults; checked as far as single values go.
OptionSet resolve_options(const GivenOptions& given);

}  // namespace longtake
