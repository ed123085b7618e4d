#include "apps/options_cli.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "base/error.h"
#include "runtime/families.h"
#include "runtime/kv_choice.h"
#include "runtime/options_yaml.h"
#include "runtime/policies.h"
#include "runtime/recipe.h"

namespace longtake {

namespace {

std::string help_of(const OptionInfo& info) {
  const std::string notes = option_notes(info);
  return notes.empty() ? info.help : fmt::format("{} [{}]", info.help, notes);
}

}  // namespace

CLI::Option* add_option_flag(CLI::App& verb, const OptionInfo& info, std::shared_ptr<std::vector<OptionAssignment>> flags) {
  const std::string help = help_of(info);
  const auto take = [flags = std::move(flags), &info](const std::string& value) {
    if (info.kind == OptionKind::timeline && !value.empty())
      flags->push_back({info.key, read_text_file(value), value});  // the file's text is the value
    else
      flags->push_back({info.key, value, info.flag()});
    return true;
  };
  if (info.kind == OptionKind::toggle) return verb.add_flag_callback(info.flags, [take] { take("true"); }, help);
  return verb.add_option(info.flags, CLI::callback_t([take](const CLI::results_t& values) { return take(values.at(0)); }), help)
      ->type_name(info.value_name)
      ->expected(1)
      ->take_last();
}

std::vector<std::string> and_run_folder(std::vector<std::string> keys) {
  for (const char* name : {"resume", "overwrite_run", "keep_run", "preview", "checkpoint_budget", "record_plan"})
    keys.push_back(std::string("run.") + name);
  return keys;
}

std::shared_ptr<GivenOptions> add_option_flags(CLI::App& verb, std::vector<std::string> without) {
  auto given = std::make_shared<GivenOptions>();
  const std::shared_ptr<std::vector<OptionAssignment>> flags(given, &given->flags);
  for (const OptionInfo& info : option_schema()) {
    if (!info.verb.empty() && info.verb != verb.get_name()) continue;
    if (std::find(without.begin(), without.end(), info.key) != without.end()) continue;
    // An empty group hides an option from --help; --help-all shows it.
    add_option_flag(verb, info, flags)->group(info.common ? "Options" : "");
  }
  verb.add_option("--config", given->config, "YAML file with the same keys (see --print-config)")->type_name("FILE");
  verb.add_option("--set", given->set, "Set a key of the YAML file, for example --set sampling.shift=5")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
  verb.add_flag_callback(
      "--help-all",
      [&verb] {
        for (CLI::Option* option : verb.get_options())
          if (option->get_group().empty()) option->group("More options");
        verb.footer(fmt::format("Policies (--policy NAME[:PRESET][,KEY=VALUE...]):\n{}\nPolicies of MAGI-1 models:\n{}\nK/V compression (--kv "
                                "NAME[:KEY=VALUE...]):\n{}",
                                describe_policies(), describe_policies(PolicyFamily::latent), describe_kv()));
        throw CLI::CallForHelp();
      },
      "Show every option");
  return given;
}

std::shared_ptr<GivenOptions> add_chosen_flags(CLI::App& verb, const std::vector<std::string>& with) {
  std::vector<std::string> without;
  for (const OptionInfo& info : option_schema())
    if (std::find(with.begin(), with.end(), info.key) == with.end()) without.push_back(info.key);
  return add_option_flags(verb, without);
}

void add_model_config(CLI::App& verb, const std::shared_ptr<GivenOptions>& given) {
  const OptionInfo& info = *find_option("model");
  verb.add_option_function<std::string>(
          info.flags + ",--model-config", [given](const std::string& name) { given->flags.push_back({"model", name, "--model-config"}); },
          help_of(info))
      ->type_name(info.value_name);
}

void add_base_seed(CLI::App& verb, const std::shared_ptr<GivenOptions>& given, const std::string& help) {
  verb.add_option_function<std::string>("--seed", [given](const std::string& value) {
      if (value == "random") fail_usage("--seed must be a number here, the first of many seeds");
      given->flags.push_back({"seed", value, "--seed"});
    }, help)
      ->type_name("NUMBER");
}

OptionSet given_options(const GivenOptions& given) {
  OptionSet options;
  for (const OptionAssignment& flag : given.flags) options.set(flag, SourceLevel::flag);
  for (const std::string& assignment : given.set) options.set(assignment);
  if (!given.config.empty()) options.apply_yaml(read_text_file(given.config), given.config);
  return options;
}

OptionSet resolve_options(const GivenOptions& given, const std::string& skyreels_verb) {
  OptionSet options = given_options(given);
  const Recipe recipe = resolve_model(options.values().model, default_search()).recipe;
  options.apply_recipe(recipe.defaults);
  if (!skyreels_verb.empty()) require_skyreels(recipe, skyreels_verb);
  check_options(options, recipe);
  return options;
}

void draw_seed(OptionSet& options) {
  if (options.values().seed) return;
  std::random_device random;
  options.set({"seed", fmt::format("{}", random()), "drawn at random"}, SourceLevel::flag);
}

void check_one_decider(const OptionSet& options) {
  const GenerateOptions& o = options.values();
  const OptionSource& policy = options.source("policy");
  if (!o.plan.empty() && policy.level >= SourceLevel::config && policy.level >= options.source("plan").level)
    fail_usage("--plan {} and policy {} ({}) exclude each other; give one of them", o.plan, o.policy, policy.where);
}

}  // namespace longtake
