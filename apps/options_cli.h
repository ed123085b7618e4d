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

// Adds one entry of the schema as a flag that appends to `flags`.
CLI::Option* add_option_flag(CLI::App& verb, const OptionInfo& info, std::shared_ptr<std::vector<OptionAssignment>> flags);

// The keys that mean something to `generate` alone: run folders and recorded plans.
std::vector<std::string> and_run_folder(std::vector<std::string> keys);

// Adds a flag for each entry of the schema but those of other verbs and those with the keys `without`, --config, --set and --help-all to the verb.
std::shared_ptr<GivenOptions> add_option_flags(CLI::App& verb, std::vector<std::string> without = {});

// The same with the keys `with` alone.
std::shared_ptr<GivenOptions> add_chosen_flags(CLI::App& verb, const std::vector<std::string>& with);

// The model under the further name --model-config, for verbs that need no more of a model than its recipe; its own key must be left out.
void add_model_config(CLI::App& verb, const std::shared_ptr<GivenOptions>& given);

// --seed with another meaning than the schema's: the start of many seeds, which must be a number.
void add_base_seed(CLI::App& verb, const std::shared_ptr<GivenOptions>& given, const std::string& help);

// Flags over --set over --config; no recipe yet.
OptionSet given_options(const GivenOptions& given);

// The same over the model's recipe over built-in defaults; checked as far as single values go. Usage error for options that mean
// nothing to the model, and where a `skyreels_verb` is given a model of another family.
OptionSet resolve_options(const GivenOptions& given, const std::string& skyreels_verb = "");

// A random seed where the options name none; it is recorded like one that was given.
void draw_seed(OptionSet& options);

// Usage error where a plan and a policy were both asked for.
void check_one_decider(const OptionSet& options);

}  // namespace longtake
