// longtake batch FILE -o DIR: many videos, one load, resumable; longtake batch status DIR: what is done.
#include <fmt/format.h>

#include "apps/batch_loop.h"
#include "apps/commands.h"
#include "apps/options_cli.h"
#include "base/error.h"
#include "video_io/vbench/plan.h"

namespace longtake {
namespace {

struct Arguments {
  std::string file, out, shard = "1/1";
  bool remake = false;
  int limit = 0;
};

void make_batch(const Arguments& a, const GivenOptions& given) {
  if (a.file.empty()) fail_usage("there is no list; name a file of prompts or a YAML file of jobs: longtake batch prompts.txt -o videos/");
  if (a.out.empty()) fail_usage("there is no output folder; name one with --out videos/");
  const OptionSet base = given_options(given);
  if (!base.values().prompt.empty()) fail_usage("{}: prompts come from the list, not from here", base.source("prompt").where);
  if (!base.values().out.empty()) fail_usage("{}: names come from the list; the folder is --out", base.source("out").where);
  BatchRun run{BatchFolder(a.out), read_batch_file(a.file, base, recipe_finder())};
  run.shard = parse_shard(a.shard);
  run.remake = a.remake;
  run.limit = a.limit;
  run.dry_run = base.values().dry_run;
  run.threads = base.values().threads;
  run.json_log = base.values().json_log;
  run_batch(run);
}

}  // namespace

void add_batch(CLI::App& program) {
  auto* verb = program.add_subcommand("batch", "Generate many videos from a list of prompts or jobs, with one load");
  verb->footer(
      "FILE has one prompt a line; a .yaml file has a list of jobs, each with generate's keys and optionally `name`.\n"
      "Started again, it makes what is missing. Examples:\n"
      "  longtake batch prompts.txt -o videos/ --steps 30\n"
      "  longtake batch jobs.yaml -o videos/ --shard 2/8\n"
      "  longtake batch status videos/");
  const auto a = std::make_shared<Arguments>();
  verb->add_option("FILE", a->file, "Prompts, one a line, or jobs (.yaml)");
  verb->add_option("-o,--out", a->out, "Folder for the videos")->type_name("DIR");
  verb->add_option("--shard", a->shard, "Make only the I-th of N parts of the list, so that several processes or machines share it [default: 1/1]")
      ->type_name("I/N");
  verb->add_flag("--remake", a->remake, "Make videos again that are there with other settings");
  verb->add_option("--limit", a->limit, "Make at most so many videos now")->type_name("COUNT")->check(CLI::Range(1, 1000000));
  const auto given = add_option_flags(*verb, and_run_folder({"prompt", "prompts", "out", "seed"}));
  add_base_seed(*verb, given, "Start of all seeds: each video without a seed of its own gets this plus a number made from its name [default: 0]");

  const auto folder = std::make_shared<std::string>();
  const auto as_json = std::make_shared<bool>(false);
  auto* status = verb->add_subcommand("status", "What all shards have done so far; exit code 6 while videos are missing");
  status->add_option("DIR", *folder, "The folder of the batch, or of vbench run")->required();
  status->add_flag("--json", *as_json, "As JSON, with every name");
  verb->callback([=] {
    if (verb->got_subcommand(status))
      print_batch_status(BatchFolder(*folder, is_vbench_export(*folder)), *as_json);
    else
      make_batch(*a, *given);
  });
}

}  // namespace longtake
