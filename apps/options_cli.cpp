#include "apps/options_cli.h"

#include <fmt/format.h>

#include "base/error.h"
#include "runtime/kv_choice.h"
#include "runtime/options_yaml.h"
#include "runtime/policies.h"
#include "runtime/recipe.h"

namespace longtake {

std::shared_ptr<GivenOptions> add_option_flags(CLI::App& verb) {
  auto given = std::make_shared<GivenOptions>();
  for (const OptionInfo& info : option_schema()) {
    const std::string help = fmt::format("{} [{}]", info.help, option_notes(info));
    const auto take = [given, &info](const std::string& value) {
      given->flags.push_back({info.key, value, info.flag()});
      return true;
    };
    CLI::Option* option = nullptr;
    if (info.kind == OptionKind::toggle)
      option = verb.add_flag_callback(info.flags, [take] { take("true"); }, help);
    else
      option = verb.add_option(info.flags, CLI::callback_t([take](const CLI::results_t& values) { return take(values.at(0)); }), help)
                   ->type_name(info.value_name)
                   ->expected(1)
                   ->take_last();
    // An empty group hides an option from --help; --help-all shows it.
    option->group(info.common ? "Options" : "");
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
        verb.footer(fmt::format("Policies (--policy NAME[:PRESET][,KEY=VALUE...]):\n{}\nK/V compression (--kv NAME[:KEY=VALUE...]):\n{}",
                                describe_policies(), describe_kv()));
        throw CLI::CallForHelp();
      },
      "Show every option");
  return given;
}

OptionSet resolve_options(const GivenOptions& given) {
  OptionSet options;
  for (const OptionAssignment& flag : given.flags) options.set(flag, SourceLevel::flag);
  for (const std::string& assignment : given.set) options.set(assignment);
  if (!given.config.empty()) options.apply_yaml(read_text_file(given.config), given.config);
  options.apply_recipe(resolve_model(options.values().model, default_search()).recipe.defaults);
  return options;
}

}  // namespace longtake
