// longtake vbench: plan, make, check and score an export for VBench.
#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/batch_loop.h"
#include "apps/commands.h"
#include "apps/options_cli.h"
#include "apps/run_inputs.h"
#include "base/error.h"
#include "runtime/families.h"
#include "runtime/progress.h"
#include "video_io/vbench/check.h"
#include "video_io/vbench/plan.h"
#include "video_io/vbench/protocol.h"
#include "video_io/vbench/script.h"
#include "video_io/vbench/score.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

// What an export for VBench shall hold, or what a folder of another program is expected to.
struct Selection {
  std::string info, protocol, layout;
  std::vector<std::string> suites, dimensions;
  int samples = kStandardSamples;
  int flicker_samples = 0;  // as many as `samples`

  int flickering() const { return flicker_samples > 0 ? flicker_samples : samples; }
};

void add_selection(CLI::App& verb, Selection& s) {
  verb.add_option("--info", s.info, "VBench_full_info.json, from VBench's repository")->type_name("FILE");
  verb.add_option("--protocol", s.protocol, "short (VBench) or long (VBench-Long, from 5 s on) [default: by the length]")
      ->type_name("NAME")
      ->check(CLI::IsMember({"short", "long"}));
  verb.add_option("--suites", s.suites, "Only these suites, with commas between them [default: all 11]")->type_name("NAME,...")->delimiter(',')->allow_extra_args(false);
  verb.add_option("--dimensions", s.dimensions, "Only what these dimensions need, with commas between them [default: all 16]")
      ->type_name("NAME,...")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb.add_option("--samples", s.samples, "Videos of a prompt [default: 5, as the protocol wants]")->type_name("COUNT")->check(CLI::Range(1, 1000));
  verb.add_option("--flicker-samples", s.flicker_samples, "Videos of a prompt of temporal_flickering; 25 for its static filter [default: --samples]")
      ->type_name("COUNT")
      ->check(CLI::Range(1, 1000));
}

// `arguments` is shared with the verb's callback.
template <class Arguments>
void add_long_flag(CLI::App& verb, const std::shared_ptr<Arguments>& arguments) {
  verb.add_flag_callback("--long", [arguments] { arguments->selection.protocol = "long"; }, "The same as --protocol long");
}

std::optional<VbenchProtocol> protocol_of(const std::string& text) {
  if (text.empty()) return std::nullopt;
  return text == "long" ? VbenchProtocol::long_videos : VbenchProtocol::standard;
}

void print_plan(const VbenchExport& vbench, const fs::path& root, double seconds_per_video) {
  const VbenchPlan& plan = vbench.plan;
  const GenerateOptions& o = plan.options.values();
  const std::vector<BatchJob> jobs = vbench_jobs(vbench);
  std::map<std::string, std::pair<int, int>> counts;  // prompts, videos
  for (const VbenchPrompt& prompt : vbench.prompts) ++counts[prompt.suite].first;
  for (const BatchJob& job : jobs) ++counts[job.about["suite"].get<std::string>()].second;
  fmt::print("{:<24}{:>8}{:>8}\n", "suite", "prompts", "videos");
  for (const std::string& suite : plan.suites) fmt::print("{:<24}{:>8}{:>8}\n", suite, counts[suite].first, counts[suite].second);
  const int frames = plan.frames();
  fmt::print("{} videos of {} frames, {}x{}, {} fps ({:.2f} s): {}, layout {}, crf {}\n", jobs.size(), frames, o.size.height, o.size.width, o.fps,
             plan.seconds(), plan.protocol == VbenchProtocol::standard ? "VBench" : "VBench-Long", name_of(plan.layout), o.crf);
  fmt::print("prompts: {}; model {}, policy {}; seeds {} + 1000003 * line + index\n", plan.prompt_list, o.model, o.policy, plan.seed);
  if (plan.protocol == VbenchProtocol::long_videos && frames % (2 * o.fps) != 0)
    fmt::print("note: VBench-Long cuts clips of 2 s; {} frames are no whole number of {}, so the last clip reaches back\n", frames, 2 * o.fps);

  std::vector<std::string> names;
  for (const BatchJob& job : jobs) names.push_back(job.name);
  const BatchSummary done = summarize(vbench.folder, names);
  const auto count = static_cast<double>(done.done.size()), left = static_cast<double>(names.size()) - count;
  if (count > 0 && seconds_per_video == 0) seconds_per_video = done.seconds / count;
  fmt::print("done: {}, left: {}\n", done.done.size(), names.size() - done.done.size());
  if (seconds_per_video > 0)
    fmt::print("time: {:.1f} s a video ({}), {:.1f} GPU-hours in all, {:.1f} left\n", seconds_per_video, count > 0 ? "measured here" : "as given",
               seconds_per_video * static_cast<double>(names.size()) / 3600, seconds_per_video * left / 3600);
  else
    fmt::print("time: unknown; give --seconds-per-video, or make one with longtake vbench run {} --limit 1 and plan again\n", root.string());
  if (count > 0)
    fmt::print("disk: {} in all (measured here)\n", format_bytes(done.bytes / count * static_cast<double>(names.size())));
  else
    fmt::print("disk: {} in all at one bit a pixel (a rule of thumb; measured once there are videos)\n",
               format_bytes(static_cast<double>(frames) * o.size.height * o.size.width / 8 * static_cast<double>(names.size())));
}

void plan_export(const Selection& s, const std::string& out, const std::string& list, bool replace, double seconds_per_video, const GivenOptions& given) {
  if (out.empty()) fail_usage("there is no output folder; name one with --out vbench/");
  if (s.info.empty()) fail_usage("there are no prompts; give VBench's own file with --info VBench_full_info.json");
  VbenchPlan plan;
  plan.suites = choose_suites(s.suites, s.dimensions);
  plan.samples = s.samples;
  plan.flicker_samples = s.flickering();
  plan.layout = s.layout == "flat" ? VbenchLayout::flat : VbenchLayout::by_suite;
  plan.options = given_options(given);
  const OptionSet& options = plan.options;
  refuse_video(options.values(), "vbench");
  if (!options.values().prompt.empty() || !options.values().out.empty()) fail_usage("a plan has neither prompt nor output file: VBench's prompts give both");
  if (!options.values().seed && options.source("seed").level != SourceLevel::builtin) fail_usage("--seed must be a number, so that every video can be made again");
  plan.seed = options.values().seed.value_or(0);
  const Recipe recipe = resolve_model(options.values().model, default_search()).recipe;
  if (is_magi(recipe)) plan.recipe = recipe;
  plan.options.apply_recipe(recipe.defaults);
  check_options(plan.options, recipe);
  // generate's own default is for watching, not for measuring.
  if (options.source("video.crf").level == SourceLevel::builtin) plan.options.set({"video.crf", "12", "VBench"}, SourceLevel::recipe);
  plan.protocol = protocol_of(s.protocol).value_or(protocol_for(plan.seconds()));
  plan.prompt_list = list.empty() ? "standard" : fs::path(list).filename().string();
  check_vbench_plan(plan);
  const std::string info = read_prompt_file(s.info), longer = list.empty() ? "" : read_prompt_file(list);
  std::vector<VbenchPrompt> prompts = parse_vbench_prompts(info, s.info);
  if (!list.empty()) set_long_prompts(prompts, longer, list);
  write_vbench_export(out, plan, info, longer, replace);
  print_plan(open_vbench_export(out), out, seconds_per_video);
}

// Two prompts of VBench differ in nothing but case.
void check_case_matters(const fs::path& meta) {
  const fs::path probe = meta / "Case-Probe";
  write_whole(probe, "");
  std::error_code error;
  const bool ignored = fs::exists(meta / "case-probe", error);
  fs::remove(probe, error);
  if (ignored) fail_file("{}: the file system takes upper and lower case for the same, and VBench has prompts that differ in nothing else; choose another place", meta.string());
}

void run_export(const std::string& root, const std::string& shard, bool remake, int limit, const GivenOptions& given) {
  VbenchExport vbench = open_vbench_export(root);
  for (const OptionAssignment& flag : given.flags) vbench.plan.options.set(flag, SourceLevel::flag);
  check_vbench_plan(vbench.plan);
  const GenerateOptions& o = vbench.plan.options.values();
  if (!o.dry_run) check_case_matters(vbench.folder.meta());
  BatchRun run{vbench.folder, vbench_jobs(vbench)};
  check_job(run.jobs.front(), vbench.plan.recipe);
  run.shard = parse_shard(shard);
  run.remake = remake;
  run.limit = limit;
  run.dry_run = o.dry_run;
  run.threads = o.threads;
  run.json_log = o.json_log;
  run_batch(run);
}

void check_export(const Selection& s, const std::string& root, bool no_decode, bool as_json) {
  VbenchCheckRequest request;
  if (is_vbench_export(root)) {
    request.made = open_vbench_export(root);
    const VbenchPlan& plan = request.made->plan;
    request.videos = request.made->folder.videos();
    std::error_code error;
    if (!fs::exists(request.videos, error)) fail_file("{} holds no videos yet; make them with longtake vbench run {}", root, root);
    request.prompts = request.made->prompts;
    request.suites = plan.suites;
    request.samples = plan.samples;
    request.flicker_samples = plan.flicker_samples;
    request.protocol = plan.protocol;
  } else {
    if (s.info.empty()) fail_usage("{} was not planned by longtake: give VBench's prompts with --info VBench_full_info.json", root);
    request.videos = root;
    request.prompts = parse_vbench_prompts(read_prompt_file(s.info), s.info);
    request.suites = choose_suites(s.suites, s.dimensions);
    request.samples = s.samples;
    request.flicker_samples = s.flickering();
  }
  if (!s.protocol.empty()) request.protocol = protocol_of(s.protocol);
  request.decode = !no_decode;
  const VbenchCheckReport report = check_vbench_folder(request);
  if (as_json)
    fmt::print("{}\n", json_text(check_json(report), 2));
  else
    fmt::print("{}", check_text(report));
  if (report.errors() > 0) fail(ExitCode::faults_found, "{} is not ready for VBench: {} errors", root, report.errors());
}

void print_script(const Selection& s, const std::string& root, const std::string& results) {
  VbenchScriptRequest request;
  if (is_vbench_export(root)) {
    const VbenchExport vbench = open_vbench_export(root);
    request = {.videos = vbench.folder.videos(),
               .protocol = vbench.plan.protocol,
               .layout = vbench.plan.layout,
               .suites = vbench.plan.suites,
               .flicker_samples = vbench.plan.flicker_samples,
               .samples = vbench.plan.samples,
               .prompt_list = vbench.plan.prompt_list,
               .results = vbench.folder.root() / "results"};
  } else {
    if (s.protocol.empty()) fail_usage("{} was not planned by longtake: say --protocol short or long", root);
    bool by_suite = false;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(root, error)) by_suite = by_suite || (entry.is_directory() && is_suite(entry.path().filename().string()));
    if (error) fail_file("{}: cannot be read ({})", root, error.message());
    request = {.videos = root,
               .protocol = *protocol_of(s.protocol),
               .layout = by_suite ? VbenchLayout::by_suite : VbenchLayout::flat,
               .suites = choose_suites(s.suites, s.dimensions),
               .flicker_samples = s.flickering(),
               .samples = s.samples,
               .results = root + "-results"};
  }
  if (request.protocol == VbenchProtocol::long_videos && request.layout == VbenchLayout::flat)
    fail_usage("VBench-Long needs a folder a suite, and {} is flat", root);
  if (!results.empty()) request.results = results;
  request.videos = fs::absolute(request.videos).lexically_normal();
  request.results = fs::absolute(request.results).lexically_normal();
  fmt::print("{}", vbench_script(request));
}

void print_scores(const std::string& results, const std::string& other, bool as_json) {
  const VbenchScores scores = read_vbench_results(results);
  const std::optional<VbenchScores> against = other.empty() ? std::nullopt : std::optional(read_vbench_results(other));
  if (as_json) {
    nlohmann::ordered_json out = scores_json(scores);
    if (against) out["other"] = scores_json(*against);
    fmt::print("{}\n", json_text(out, 2));
  } else {
    fmt::print("{}", scores_text(scores, against ? &*against : nullptr));
  }
  if (!scores.missing.empty()) fail(ExitCode::partial, "{} of 16 dimensions are missing; longtake vbench script prints the commands", scores.missing.size());
}

void add_plan_verb(CLI::App& vbench) {
  auto* verb = vbench.add_subcommand("plan", "Say what an export shall hold: writes DIR/meta/plan.yaml and prints counts, time and disk");
  verb->footer("Example: longtake vbench plan --info VBench_full_info.json -o vbench/ -m skyreels-v2-df-1.3b-540p --policy motioncache:slow");
  struct Arguments {
    Selection selection;
    std::string out, list;
    bool replace = false;
    double seconds = 0;
  };
  const auto a = std::make_shared<Arguments>();
  verb->add_option("-o,--out", a->out, "Folder of the export")->type_name("DIR");
  add_selection(*verb, a->selection);
  verb->add_option("--long-prompts", a->list, "List of longer prompts, aligned with --info line by line: videos are made from them and called by the short ones")
      ->type_name("FILE");
  verb->add_option("--layout", a->selection.layout, "suite (videos/SUITE/*.mp4) or flat (videos/*.mp4) [default: suite]")
      ->type_name("NAME")
      ->check(CLI::IsMember({"suite", "flat"}));
  verb->add_option("--seconds-per-video", a->seconds, "For the estimate of GPU-hours")->type_name("SECONDS")->check(CLI::Range(0.001, 1e7));
  verb->add_flag("--replace", a->replace, "Replace the plan that is in the folder");
  const auto given = add_option_flags(*verb, and_run_folder({"prompt", "prompts", "out", "seed", "conditioning.image", "conditioning.end_image", "run.device", "run.threads", "run.json_log", "run.dry_run"}));
  add_base_seed(*verb, given, "Start of all seeds: each video gets this + 1000003 * line + index [default: 0]");
  verb->callback([a, given] { plan_export(a->selection, a->out, a->list, a->replace, a->seconds, *given); });
}

void add_run(CLI::App& vbench) {
  auto* verb = vbench.add_subcommand("run", "Make the videos of a plan; started again, it makes what is missing");
  struct Arguments {
    std::string folder, shard = "1/1";
    bool remake = false;
    int limit = 0;
  };
  const auto a = std::make_shared<Arguments>();
  verb->add_option("DIR", a->folder, "The folder of the plan")->required();
  verb->add_option("--shard", a->shard, "Make only the I-th of N parts, so that several processes or machines share the work [default: 1/1]")->type_name("I/N");
  verb->add_flag("--remake", a->remake, "Make videos again that are there with other settings");
  verb->add_option("--limit", a->limit, "Make at most so many videos now")->type_name("COUNT")->check(CLI::Range(1, 1000000));
  std::vector<std::string> without;
  for (const OptionInfo& info : option_schema())
    if (info.section() != "run" || info.key == "run.dtype" || info.key == "run.vae_dtype") without.push_back(info.key);
  const auto given = add_option_flags(*verb, and_run_folder(without));
  verb->callback([a, given] {
    if (!given->config.empty() || !given->set.empty()) fail_usage("the plan says how videos are made; change it with longtake vbench plan --replace");
    run_export(a->folder, a->shard, a->remake, a->limit, *given);
  });
}

void add_check(CLI::App& vbench) {
  auto* verb = vbench.add_subcommand("check", "Whether VBench would take a folder as it is meant; exit code 1 where not");
  struct Arguments {
    Selection selection;
    std::string folder;
    bool no_decode = false, as_json = false;
  };
  const auto a = std::make_shared<Arguments>();
  verb->add_option("FOLDER", a->folder, "A folder of vbench plan, or one with videos of any program (then with --info)")->required();
  add_selection(*verb, a->selection);
  add_long_flag(*verb, a);
  verb->add_flag("--no-decode", a->no_decode, "Read the videos' packets only: faster, and blind to most damage within pictures");
  verb->add_flag("--json", a->as_json, "As JSON, with every fault");
  verb->callback([a] { check_export(a->selection, a->folder, a->no_decode, a->as_json); });
}

void add_script(CLI::App& vbench) {
  auto* verb = vbench.add_subcommand("script", "Print the commands that evaluate a folder, as a shell script");
  struct Arguments {
    Selection selection;
    std::string folder, results;
  };
  const auto a = std::make_shared<Arguments>();
  verb->add_option("FOLDER", a->folder, "A folder of vbench plan, or one with videos of any program (then with --protocol)")->required();
  add_selection(*verb, a->selection);
  add_long_flag(*verb, a);
  verb->add_option("--results", a->results, "Where the evaluator shall write")->type_name("DIR");
  verb->callback([a] { print_script(a->selection, a->folder, a->results); });
}

void add_score(CLI::App& vbench) {
  auto* verb = vbench.add_subcommand("score", "Quality, Semantic and Total from the evaluator's results; exit code 6 where dimensions are missing");
  struct Arguments {
    std::string results, other;
    bool as_json = false;
  };
  const auto a = std::make_shared<Arguments>();
  verb->add_option("RESULTS", a->results, "A result file of VBench, or a folder with *_eval_results.json")->required();
  verb->add_option("OTHER", a->other, "Results of another run, to compare");
  verb->add_flag("--json", a->as_json, "As JSON");
  verb->callback([a] { print_scores(a->results, a->other, a->as_json); });
}

}  // namespace

void add_vbench(CLI::App& program) {
  auto* vbench = program.add_subcommand("vbench", "Export videos for VBench and VBench-Long, check folders, and compute scores");
  vbench->require_subcommand(1);
  add_plan_verb(*vbench);
  add_run(*vbench);
  add_check(*vbench);
  add_script(*vbench);
  add_score(*vbench);
}

}  // namespace longtake
