// longtake: generate long videos, see what was computed, look into files. One small file a verb.
#include <fmt/format.h>

#include <csignal>
#include <cstdio>

#include "apps/commands.h"
#include "base/error.h"
#include "base/suggest.h"

namespace longtake {
namespace {

void flag_names(const CLI::App& app, std::vector<std::string>& names) {
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
}

// The verbs that were named, each a subcommand of the one before it.
std::vector<const CLI::App*> chosen_verbs(const CLI::App& program) {
  std::vector<const CLI::App*> verbs;
  for (const CLI::App* app = &program; !app->get_subcommands().empty(); verbs.push_back(app)) app = app->get_subcommands().front();
  return verbs;
}

// CLI11 says that something is unknown; this says what was probably meant.
std::string explain(const CLI::App& program, const CLI::ParseError& error) {
  const auto chosen = chosen_verbs(program);
  const auto extras = program.remaining(true);
  const CLI::App& last = chosen.empty() ? program : *chosen.back();
  const auto verbs = last.get_subcommands([](const CLI::App*) { return true; });
  const bool no_verb = dynamic_cast<const CLI::RequiredError*>(&error) && (chosen.empty() || last.get_require_subcommand_min() > 0);
  std::string spoken = "longtake";
  for (const CLI::App* verb : chosen) spoken += " " + verb->get_name();
  if (extras.empty() || !(no_verb || dynamic_cast<const CLI::ExtrasError*>(&error)))
    return no_verb ? fmt::format("a verb is missing, for example {}; see {} --help", verbs.front()->get_name(), spoken) : error.what();
  std::vector<std::string> known;
  for (const CLI::App* verb : chosen) flag_names(*verb, known);
  if (no_verb)
    for (const CLI::App* verb : verbs) known.push_back(verb->get_name());
  for (std::string word : extras) {
    word = word.substr(0, word.find('='));
    if (const std::string hint = did_you_mean(word, known); !hint.empty()) return fmt::format("unknown argument {}{}", word, hint);
  }
  return fmt::format("unknown argument {}; see {} --help", extras.front(), spoken);
}

int run(int argc, char** argv) {
  CLI::App program{"longtake generates long videos with autoregressive diffusion models"};
  program.set_version_flag("--version", fmt::format("longtake {}", kVersion));
  program.require_subcommand(1);
  program.failure_message([](const CLI::App*, const CLI::Error& error) { return std::string(error.what()) + "\n"; });
  add_generate(program);
  add_decode(program);
#ifdef LONGTAKE_VIDEO_IO
  add_extend(program);
  add_batch(program);
#endif
  add_models(program);
  add_inspect(program);
  add_convert(program);
#ifdef LONGTAKE_VIDEO_IO
  add_compare(program);
  add_metrics(program);
  add_vbench(program);
#endif
  add_plan(program);
  add_calibrate(program);
  add_bench(program);
  add_doctor(program);
  try {
    program.parse(argc, argv);
    return static_cast<int>(ExitCode::ok);
  } catch (const CLI::Success& success) {
    return program.exit(success);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "longtake: {}\n", explain(program, error));
    return static_cast<int>(ExitCode::usage);
  } catch (const Error& error) {
    fmt::print(stderr, "longtake: {}\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "longtake: out of memory; longtake generate --dry-run tells what a run needs\n");
    return static_cast<int>(ExitCode::no_memory);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    const bool memory = text.find("out of memory") != std::string::npos || text.find("can't allocate memory") != std::string::npos;
    fmt::print(stderr, "longtake: {}\n", text.substr(0, text.find('\n')));
    if (memory) fmt::print(stderr, "longtake: out of memory; longtake generate --dry-run tells what a run needs\n");
    return static_cast<int>(memory ? ExitCode::no_memory : ExitCode::internal);
  }
}

}  // namespace
}  // namespace longtake

int main(int argc, char** argv) {
  // What cannot be written is told of by name, also where a limit on file sizes is why.
  for (const int signal : {SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_IGN);
  return longtake::run(argc, argv);
}
