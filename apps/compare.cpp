// longtake compare: cache policies on the same prompts and noise, as numbers and as pictures.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <fstream>

#include <limits>
#include "apps/commands.h"
#include "apps/compare_run.h"
#include "apps/interrupt.h"
#include "apps/model_family.h"
#include "apps/options_cli.h"
#include "apps/prompt_list.h"
#include "base/error.h"
#include "runtime/device.h"
#include "runtime/families.h"
#include "video_io/page_parts.h"

namespace longtake {
namespace {

struct Arguments {
  std::vector<std::string> prompts, policies;
  std::string prompt_file, seeds = "1", folder, baselines = "both", side_by_side = "first", lpips;
  bool no_warmup = false, overwrite = false;
};

// The command as it can be typed again; "" where the system does not tell.
std::string command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string out, word;
  for (bool program = true; std::getline(file, word, '\0'); program = false) {
    if (program) {
      out = "longtake";
      continue;
    }
    const bool plain =
        !word.empty() &&
        word.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=.,:/@+%") ==
            std::string::npos;
    std::string quoted;
    for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
    out += " " + (plain ? word : "'" + quoted + "'");
  }
  return out;
}

// The entries to run: missing baselines go in front.
std::vector<ComparedPolicy> policies_of(const Arguments& a, std::string& missing) {
  std::vector<ComparedPolicy> listed, out;
  for (PolicyEntry& entry : parse_policy_list(a.policies)) listed.push_back({std::move(entry)});
  const auto has = [&](const char* name) {
    return std::any_of(listed.begin(), listed.end(), [&](const ComparedPolicy& p) { return p.entry.plain(name); });
  };
  for (const char* name : {"none", "causal"}) {
    if (has(name)) continue;
    if (a.baselines == "both" || a.baselines == name)
      out.push_back({parse_policy_entry(name), true});
    else
      missing += fmt::format("{}There is no baseline {} (--baselines {}), so no number is against it.",
                             missing.empty() ? "" : " ", name, a.baselines);
  }
  for (ComparedPolicy& policy : listed) out.push_back(std::move(policy));
  return out;
}

std::string today() {
  const std::time_t time = std::time(nullptr);
  return fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(time));
}

void open_folder(const std::filesystem::path& folder, bool overwrite) {
  std::error_code error;
  if (std::filesystem::exists(folder) && !std::filesystem::is_directory(folder))
    fail_file("{} is a file; name a folder with --out", folder.string());
  if (std::filesystem::is_directory(folder) && !std::filesystem::is_empty(folder, error) && !overwrite)
    fail_file("the folder {} is not empty; name a new one, or pass --overwrite to replace the results in it",
              folder.string());
  std::filesystem::create_directories(folder / "videos", error);
  if (error) fail_file("the folder {} cannot be made: {}", folder.string(), error.message());
}

// Policies that see windows of the same lengths start from the same noise.
std::vector<int> window_lengths(const RunLayout& layout) {
  std::vector<int> lengths;
  for (const RunLayout::Window& window : layout.windows) lengths.push_back(window.latent_frames());
  return lengths;
}

nlohmann::ordered_json shared_options(const OptionSet& options, const Recipe& recipe) {
  nlohmann::ordered_json out = options.to_json(options_without_effect(recipe));
  for (const char* key : {"prompt", "out", "seed", "policy"}) out.erase(key);
  return out;
}

void print_summary(const Comparison& c) {
  const int none = c.policy_index("none"), causal = c.policy_index("causal");
  size_t width = 8;
  for (const ComparedPolicy& policy : c.policies) width = std::max(width, policy.entry.label.size() + 2);
  fmt::print("{:<{}}{:>10}{:>10}{:>11}{:>14}{:>12}{:>14}{:>14}\n", "policy", width, "x none", "x causal", "denoise s",
             "FLOPs", "recomputed", "dB to causal", "dB to none");
  for (int i = 0; i < static_cast<int>(c.policies.size()); ++i) {
    const auto speed = [&](int b) { return b < 0 || b == i ? Estimate{} : speedup_of(c, i, b, Timing::denoise); };
    const auto cell = [](const Estimate& e, Unit unit) {
      return e.count == 0 ? std::string("-") : format_value(e.value, unit);
    };
    const auto mean = [&](const char* key) { return mean_of(c, i, measure(key)); };
    fmt::print("{:<{}}{:>10}{:>10}{:>11}{:>14}{:>12}{:>14}{:>14}\n", c.policies[i].entry.label, width,
               cell(speed(none), Unit::times), cell(speed(causal), Unit::times),
               cell(mean("denoise_seconds"), Unit::seconds), cell(mean("flops"), Unit::flops),
               cell(mean("recomputed_share"), Unit::percent), cell(mean("psnr_causal"), Unit::decibel),
               cell(mean("psnr_none"), Unit::decibel));
  }
}

// All policies decode alike: with as few latents at once as the one that has least room. Returns a note, or "".
std::string pass_memory(std::vector<OptionSet>& policies, const ResolvedModel& model, const ModelTarget& target) {
  const RunMemory memory(model, target, policies.front().values(), FrameTarget::tensors);
  std::string note;
  int latents = std::numeric_limits<int>::max();
  for (const OptionSet& policy : policies) {
    GenerateOptions o = policy.values();
    memory.settle(o, *make_video_request(model.recipe, o), /*encodes=*/true, note);
    latents = std::min(latents, o.decode_latents);
  }
  if (!without_effect(model.recipe, "run.decode_latents").empty()) return note;
  for (OptionSet& policy : policies) policy.set({"run.decode_latents", fmt::format("{}", latents), "as memory allows"}, SourceLevel::flag);
  return note;
}

void run_compare(const GivenOptions& given, const Arguments& a) {
  OptionSet shared = resolve_options(given);
  const ResolvedModel model = resolve_model(shared.values().model, default_search());
  std::vector<std::string> prompts = a.prompts;
  if (!a.prompt_file.empty())
    for (std::string& prompt : read_prompts(a.prompt_file)) prompts.push_back(std::move(prompt));
  if (prompts.empty())
    fail_usage("there is no prompt; give --prompts FILE (one on each line), or --prompt TEXT one or more times");
  const bool dry_run = shared.values().dry_run;
  if (a.folder.empty() && !dry_run) fail_usage("there is no folder for the results; name one with --out DIR");
  if (shared.values().parity != "none" && !is_magi(model.recipe) && a.baselines != "listed")
    fail_usage(
        "--parity {} goes with one kind of attention, so baselines cannot be added to it; list the policies and pass "
        "--baselines listed",
        shared.values().parity);
  shared.set({"prompt", prompts.front(), "--prompts"}, SourceLevel::flag);
  shared.set({"out", a.folder.empty() ? "." : a.folder, "--out"}, SourceLevel::flag);
  refuse_video(shared.values(), "compare");
  Comparison c;
  c.prompts = std::move(prompts);
  c.seeds = read_seeds(a.seeds, shared.values().seed.value_or(1));
  c.policies = policies_of(a, c.missing_baselines);
  ComparePlan plan;
  plan.folder = a.folder;
  plan.warmup = !a.no_warmup;
  plan.side_by_side = a.side_by_side == "all"    ? SideBySide::all
                      : a.side_by_side == "none" ? SideBySide::none
                                                 : SideBySide::first;
  std::string note;
  plan.recipe = model.recipe;
  const std::unique_ptr<VideoRequest> common = make_video_request(model.recipe, shared.values(), &note);
  const RunLayout layout = common->layout();
  std::vector<std::string> texts = c.prompts;
  for (ComparedPolicy& policy : c.policies) {
    plan.options.push_back(with_entry(shared, policy.entry, model.recipe));
    // Everything that can be wrong with it, before the model is loaded.
    const std::unique_ptr<VideoRequest> request = make_video_request(model.recipe, plan.options.back().values());
    policy.same_noise = window_lengths(request->layout()) == window_lengths(layout);
    for (const std::string& text : request->all_texts()) texts.push_back(text);
  }
  c.planned_runs = static_cast<int>(c.policies.size() * c.prompts.size() * c.seeds.size());
  if (dry_run) {
    fmt::print("{}{} policies x {} prompts x {} seeds = {} runs{}, {} frames of {}x{} in {} window{}\n",
               note.empty() ? "" : note + "\n", c.policies.size(), c.prompts.size(), c.seeds.size(), c.planned_runs,
               plan.warmup ? " and a warm-up" : "", common->frames(), shared.values().size.width,
               shared.values().size.height, layout.windows.size(), layout.windows.size() == 1 ? "" : "s");
    for (const ComparedPolicy& policy : c.policies)
      fmt::print("  {}{}\n", policy.entry.label, policy.added ? " (baseline, added)" : "");
    return;
  }
  model.require_files();
  const GenerateOptions& o = shared.values();
  if (o.threads > 0) at::set_num_threads(o.threads);
  const c10::InferenceMode inference;
  const InterruptGuard interrupt;
  const ModelTarget target = model_target(o);
  const at::Device device = target.device;
  GenerateOptions read = o;
  const RunInputs inputs(read, context_rule(model.recipe, read));
  plan.inputs = &inputs;
  const std::string memory_note = pass_memory(plan.options, model, target);
  std::optional<Lpips> lpips;
  if (!a.lpips.empty()) lpips.emplace(a.lpips, device);
  open_folder(plan.folder, a.overwrite);

  c.version = kVersion, c.date = today(), c.command = command_line();
  c.model = model.recipe.name, c.device = device.str(), c.dtype = target.fp8 ? "fp8" : o.dtype;
  c.machine = describe_machine(device), c.memory_meaning = PeakMemory::meaning(device);
  c.options = shared_options(shared, model.recipe);
  c.magi = is_magi(model.recipe);
  c.frames = common->frames(), c.height = o.size.height, c.width = o.size.width, c.fps = o.fps, c.steps = o.steps;
  c.borders = borders_of(layout), c.windows = static_cast<int>(layout.windows.size());
  if (lpips) c.lpips = lpips->name();

  Progress progress;
  JsonLog log(o.json_log);
  log.event({{"event", "start"}, {"version", kVersion}, {"options", c.options}, {"runs", c.planned_runs}});
  for (const std::string& text : {note, inputs.note(), memory_note})
    if (!text.empty()) progress.note(text);
  progress.stage(fmt::format("longtake {}, model {}: {} policies on {} clips, {} runs", kVersion, c.model,
                             c.policies.size(), c.prompts.size() * c.seeds.size(), c.planned_runs));
  const std::unique_ptr<VideoModel> engine = make_video_model(model, target, o.precision);
  progress.stage(fmt::format("encoding {} prompt{}", c.prompts.size(), c.prompts.size() == 1 ? "" : "s"));
  const double start = progress.seconds();
  if (o.text_cache == "on") engine->cache_texts([&](const std::string& text) { progress.note(text); });
  engine->encode(texts);
  progress.stage("loading the model");
  engine->load();
  c.load_seconds = progress.seconds() - start;
  run_comparison(*engine, plan, lpips, c, progress, log);

  const auto failed = std::count_if(c.runs.begin(), c.runs.end(), [](const ClipRun& run) { return !run.done(); });
  print_summary(c);
  fmt::print("{}\n", (plan.folder / "report.html").string());
  log.event({{"event", "done"}, {"seconds", progress.seconds()}, {"runs", c.runs.size()}, {"failed", failed}});
  if (failed > 0)
    fail(ExitCode::partial, "{} of {} runs failed; the report lists them, and everything else is in it", failed,
         c.planned_runs);
}

}  // namespace

void add_compare(CLI::App& program) {
  auto* verb = program.add_subcommand(
      "compare", "Compare cache policies on the same prompts and noise: a report with numbers, curves and pictures");
  auto a = std::make_shared<Arguments>();
  verb->add_option("--policies", a->policies,
                   "Policies, separated by commas or semicolons, or given one by one. Each may carry options of its "
                   "own behind @ (or a space): causal@history=carry, "
                   "motioncache:slow@steps=30@guidance=3")
      ->type_name("LIST")
      ->required()
      ->expected(1)
      ->take_all();
  verb->add_option("--prompts", a->prompt_file,
                   "Text file with a prompt on each line; empty lines and lines that begin with # do not count")
      ->type_name("FILE");
  verb->add_option("-p,--prompt", a->prompts, "A prompt; may be given several times")
      ->type_name("TEXT")
      ->expected(1)
      ->take_all();
  verb->add_option("--seeds", a->seeds, "How many seeds, from --seed on (default 1), or a list such as 1,7,42")
      ->type_name("COUNT|LIST")
      ->capture_default_str();
  verb->add_option("-o,--out", a->folder,
                   "Folder for report.html, results.json, results.csv and videos; must be new or empty")
      ->type_name("DIR");
  verb->add_option("--baselines", a->baselines,
                   "Which of the baselines none and causal run even if they are not in the list: both, none, causal, "
                   "or listed (no more than the list)")
      ->check(CLI::IsMember({"both", "none", "causal", "listed"}))
      ->capture_default_str();
  verb->add_option("--side-by-side", a->side_by_side,
                   "Which clips get a video with all policies beside each other, and heat maps: all, first, none")
      ->check(CLI::IsMember({"all", "first", "none"}))
      ->capture_default_str();
  verb->add_option("--lpips", a->lpips,
                   "TorchScript module for LPIPS, called with two float tensors [n, 3, H, W] in [-1, 1]; runs what is "
                   "in it, so trust it")
      ->type_name("FILE");
  verb->add_flag("--no-warmup", a->no_warmup, "Leave out the warm-up run");
  verb->add_flag("--overwrite", a->overwrite, "Replace results in a folder that is not empty");
  const auto given = add_option_flags(*verb, and_run_folder({"prompt", "prompts", "out", "policy", "plan", "seed"}));  // said by the options above
  add_base_seed(*verb, given, "The first seed of --seeds COUNT [default: 1]");
  verb->footer(
      "Every generate option works here, and holds for all policies. An option behind a policy holds for it alone; its "
      "key is as in --set, or its last part. Model, size, length, seed, "
      "device and precision cannot differ.\n"
      "Example: longtake compare -m demo -p \"a red circle moves up over grass\" --policies "
      "causal,motioncache:slow,motioncache:fast,causal@history=carry --seeds 3 -o comparison");
  verb->callback([given, a] { run_compare(*given, *a); });
}

}  // namespace longtake
