// longtake calibrate: how far a model's steps really lie apart, and which thresholds give which speedup.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/interrupt.h"
#include "apps/memory_gate.h"
#include "apps/options_cli.h"
#include "apps/prompt_list.h"
#include "apps/run_inputs.h"
#include "apps/run_progress.h"
#include "base/error.h"
#include "base/pending_file.h"
#include "runtime/calibration_report.h"
#include "runtime/device.h"
#include "runtime/engine.h"

namespace longtake {
namespace {

constexpr int kThresholds = 12;

struct Arguments {
  std::vector<std::string> prompts;
  std::vector<double> speedups{1.5, 2, 3};
  std::string prompt_file, seeds = "1", out;
};

// Thresholds from every step to a handful of updates a run, in equal ratios.
std::vector<Shadow> make_shadows(const StepModel& steps, const std::vector<int>& timesteps, int branches) {
  std::vector<Shadow> shadows;
  for (const char* name : {"teacache", "flowcache", "motioncache"}) {
    PolicySpec spec{name, "", {}};
    if (spec.name == "teacache") spec.values["base"] = "causal";
    double sum = 0, smallest = 0;
    for (const double d : step_distances(choose_policy(spec, false), timesteps, steps)) {
      sum += d;
      if (d > 0 && (smallest == 0 || d < smallest)) smallest = d;
    }
    for (int i = 0; i < kThresholds; ++i) {
      const double threshold = smallest * std::pow(sum / 4 / smallest, static_cast<double>(i) / (kThresholds - 1));
      spec.values["threshold"] = fmt::format("{:.3g}", threshold);
      shadows.push_back({name, std::stod(spec.values["threshold"]), make_policy(choose_policy(spec, false), timesteps, steps, branches)});
    }
  }
  return shadows;
}

void run_calibrate(const GivenOptions& given, const Arguments& a) {
  OptionSet shared = resolve_options(given, "calibrate");
  std::vector<std::string> prompts = a.prompts;
  if (!a.prompt_file.empty())
    for (std::string& prompt : read_prompts(a.prompt_file)) prompts.push_back(std::move(prompt));
  if (prompts.empty()) fail_usage("there is no prompt; give --prompts FILE (one on each line), or --prompt TEXT one or more times");
  for (const double speedup : a.speedups)
    if (!(speedup > 1 && speedup <= 1000)) fail_usage("--speedup must be above 1, found {}", speedup);
  if (!a.out.empty()) check_writable(a.out);
  shared.set({"prompt", prompts.front(), "--prompts"}, SourceLevel::flag);
  shared.set({"policy", "causal", "calibrate"}, SourceLevel::flag);
  const std::vector<uint64_t> seeds = read_seeds(a.seeds, shared.values().seed.value_or(1));
  std::string note;
  RunRequest request = make_request(shared.values(), &note);
  if (request.settings.steps < 4) fail_usage("a fit needs 4 steps or more, found {}; take more --steps", request.settings.steps);
  refuse_video(shared.values(), "calibrate");
  const ResolvedModel model = resolve_model(shared.values().model, default_search());
  GenerateOptions read = shared.values();
  const RunInputs inputs(read, context_rule(model.recipe, read));
  inputs.give(request);
  const int branches = request.settings.denoise.branches();

  model.require_files();
  const GenerateOptions& o = shared.values();
  if (o.threads > 0) at::set_num_threads(o.threads);
  const c10::InferenceMode inference;
  const InterruptGuard interrupt;
  Progress progress;
  JsonLog log(o.json_log);
  for (const std::string& text : {note, inputs.note()})
    if (!text.empty()) progress.note(text);
  const ModelTarget target = model_target(o);
  GenerateOptions settled = o;
  std::string memory_note;
  MemoryGate(model, target, o.fps).pass(settled, request, /*encodes=*/true, memory_note);
  if (!memory_note.empty()) progress.note(memory_note);
  Engine engine(model, target);
  progress.stage(fmt::format("longtake {}, model {}: calibrating on {} clips", kVersion, model.recipe.name, prompts.size() * seeds.size()));
  std::vector<std::string> texts = prompts;
  if (branches == 2) texts.push_back(request.negative);
  if (o.text_cache == "on") engine.cache_texts([&](const std::string& text) { progress.note(text); });
  engine.encode(texts);
  engine.load();

  const std::vector<int> timesteps = flow_timesteps(request.settings.steps, request.settings.shift);
  const StepModel steps = engine.steps(request);
  Calibration calibration(relative_step_change(std::vector<double>(timesteps.begin(), timesteps.end()), steps.embedding),
                          make_shadows(steps, timesteps, branches), branches);
  CalibrationReport report{.model = model.recipe.name, .reference_name = steps.dim >= 5120 ? "Wan 14B" : "Wan 1.3B",
                           .reference = steps.dim >= 5120 ? kWan14B : kWan1_3B, .linear = steps.distance == DistanceRule::linear,
                           .runs = static_cast<int>(prompts.size() * seeds.size()), .steps = request.settings.steps, .speedups = a.speedups};
  int clip = 0;
  for (const std::string& prompt : prompts) {
    for (const uint64_t seed : seeds) {
      request.prompts = {prompt}, request.seed = seed;
      RunProgress shown(progress, log, request.layout(), fmt::format("clip {}/{}: ", ++clip, report.runs));
      GenerateHooks hooks = shown.hooks();
      hooks.should_stop = InterruptGuard::requested;
      hooks.denoise.on_hidden = [&](const StepContext& context, int branch, const at::Tensor& hidden, const at::Tensor& embedded) {
        calibration.measure(context, branch, hidden, embedded);
      };
      engine.run(request, hooks, nullptr, &calibration);
    }
  }
  const nlohmann::ordered_json result = to_json(report, calibration);
  if (!a.out.empty()) write_whole_file(a.out, result.dump(2) + "\n");
  fmt::print("{}", to_text(report, calibration));
  if (!a.out.empty()) fmt::print("{}\n", a.out);
}

}  // namespace

void add_calibrate(CLI::App& program) {
  auto* verb = program.add_subcommand("calibrate", "Measure a model's step distances on complete runs, and suggest thresholds for a speedup");
  auto a = std::make_shared<Arguments>();
  verb->add_option("--prompts", a->prompt_file, "Text file with a prompt on each line; empty lines and lines that begin with # do not count")
      ->type_name("FILE");
  verb->add_option("-p,--prompt", a->prompts, "A prompt; may be given several times")->type_name("TEXT")->expected(1)->take_all();
  verb->add_option("--seeds", a->seeds, "How many seeds, from --seed on (default 1), or a list such as 1,7,42")
      ->type_name("COUNT|LIST")
      ->capture_default_str();
  verb->add_option("--speedup", a->speedups, "Wanted: so many times fewer FLOPs than causal; may be given several times [default: 1.5 2 3]")
      ->type_name("NUMBER")
      ->expected(1)
      ->take_all();
  verb->add_option("-o,--out", a->out, "Write everything that was measured (.json)")->type_name("FILE");
  const auto given = add_option_flags(*verb, and_run_folder({"prompt", "prompts", "out", "policy", "plan", "seed", "run.dry_run", "video.crf", "video.preset"}));
  add_base_seed(*verb, given, "The first seed of --seeds COUNT [default: 1]");
  verb->footer("Generate options that shape a run work here; steps, shift and guidance should be those of the runs to come.\n"
               "Example: longtake calibrate -m demo -p \"a red circle moves up over grass\" --speedup 2 -o calibration.json");
  verb->callback([given, a] { run_calibrate(*given, *a); });
}

}  // namespace longtake
