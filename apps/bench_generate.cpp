// longtake bench generate: the denoising loop and the decoder, timed row by row, with or without a model's files.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/bench.h"
#include "apps/bench_magi.h"
#include "apps/bench_report.h"
#include "apps/commands.h"
#include "apps/interrupt.h"
#include "apps/memory_gate.h"
#include "apps/options_cli.h"
#include "apps/row_clock.h"
#include "apps/row_profile.h"
#include "apps/run_progress.h"
#include "base/error.h"
#include "runtime/device.h"
#include "runtime/device_timer.h"
#include "runtime/engine.h"
#include "runtime/families.h"
#include "runtime/machine.h"
#include "runtime/magi_model.h"
#include "runtime/stopwatch.h"

namespace longtake {
namespace {

constexpr const char* kPrompt = "a red circle moves from left to right over grass";  // of models with files

struct Arguments {
  bool random_weights = false, json = false;
  WatchedRows rows;
};

// What both families say of a run before it.
BenchResult describe(const GenerateOptions& o, const Arguments& a, const ResolvedModel& model, const at::Device& device) {
  BenchResult r;
  r.version = kVersion, r.model = model.recipe.name, r.dtype = o.dtype;
  const ModelTarget target{.dtype = *dtype_named(o.dtype), .vae_dtype = dtype_named(o.vae_dtype)};
  r.vae_dtype = vae_dtype(model.recipe, target) == at::kFloat ? "fp32" : "bf16";
  r.weights = a.random_weights ? fmt::format("random weights (seed {})", *o.seed) : "weights from " + model.files->folder.string();
  const Machine machine = describe_machine(device);
  r.device = device.is_cpu() ? fmt::format("{} ({} threads)", machine.cpu, machine.threads) : machine.gpu;
  r.height = o.size.height, r.width = o.size.width, r.steps = o.steps;
  r.memory_meaning = PeakMemory::meaning(device);
  return r;
}

// A first row, so that what libraries do once is not counted.
void warm_up(Engine& engine, const RunRequest& request, Progress& progress) {
  GenerateHooks hooks;
  hooks.on_note = [&](const std::string& text) { progress.note(text); };
  hooks.denoise.on_row_end = [](const RowEnd&) { throw EnoughRows{}; };
  try {
    engine.run(request, hooks);
  } catch (const EnoughRows&) {
  }
  synchronize(engine.target().device);
}

// The clock sees everything that the run says, behind what shows it.
void watch(RowClock& clock, GenerateHooks& hooks, const at::Device& device) {
  hooks.on_window_start = [&clock, before = hooks.on_window_start](int window) {
    if (before) before(window);
    clock.begin_window(window);
  };
  hooks.denoise.on_decision = [&clock, before = hooks.denoise.on_decision](const DecisionRecord& record) {
    if (before) before(record);
    clock.decided(record);
  };
  hooks.denoise.on_row_end = [&clock](const RowEnd& end) { clock.row_ended(end); };
  hooks.on_latents = [&clock](int, const at::Tensor&) { clock.begin_decoding(); };
  hooks.on_frames = [device](const at::Tensor&) { synchronize(device); };  // within the decoder's own clock
}

void measure(Engine& engine, const RunRequest& request, const WatchedRows& rows, Progress& progress, BenchResult& result) {
  JsonLog log("");
  RunProgress shown(progress, log, request.layout());
  GenerateHooks hooks = shown.hooks();
  const InterruptGuard interrupt;
  hooks.should_stop = InterruptGuard::requested;
  RowClock clock(result, engine.target().device, rows);
  watch(clock, hooks, engine.target().device);
  try {
    result.decode_seconds = engine.run(request, hooks).decode_seconds;
    clock.decode_ended();
  } catch (const EnoughRows&) {
  }
}

// Settles what the run takes of memory, and says how much that should be.
void predict_memory(const GenerateOptions& o, const ResolvedModel& model, const ModelTarget& target, bool random, RunRequest& request,
                    Progress& progress, BenchResult& result) {
  GenerateOptions settled = o;
  std::string note;
  const MemoryPlan plan = MemoryGate(model, target, o.fps, random).pass(settled, request, /*encodes=*/!random, note);
  if (!note.empty()) progress.note(note);
  result.predict(plan, target.device.is_cpu());
}

void bench_skyreels(const GenerateOptions& o, const ResolvedModel& model, const Arguments& a, Progress& progress, BenchResult& result) {
  std::string note;
  RunRequest request = make_request(o, &note);
  if (!note.empty()) progress.note(note);
  const ModelTarget target = model_target(o);
  result.policy = o.plan.empty() ? "policy " + o.policy : "plan " + o.plan;
  result.frames = request.settings.plan.request.frames;
  result.ar_step = o.ar_step, result.branches = request.settings.denoise.branches();
  result.rows_planned = request.layout().rows();
  a.rows.check(result.rows_planned);
  predict_memory(o, model, target, a.random_weights, request, progress, result);
  const c10::InferenceMode inference;
  std::optional<Engine> engine;
  {
    const Stopwatch watch(result.setup_seconds);
    engine.emplace(model, target, a.random_weights ? std::optional(request.seed) : std::nullopt);
    engine->encode(request.all_texts());
    engine->load();
    synchronize(target.device);
  }
  {
    const Stopwatch watch(result.warmup_seconds);
    warm_up(*engine, request, progress);
  }
  result.weight_bytes = engine->transformer().weight_bytes();
  result.precision = engine->target().fp8 ? "fp8" : o.dtype;
  measure(*engine, request, a.rows, progress, result);
}

void run_bench_generate(const GivenOptions& given, const Arguments& a) {
  OptionSet options = resolve_options(given);
  check_one_decider(options);
  options.set({"prompt", kPrompt, "bench"}, SourceLevel::flag);
  if (!options.values().seed) options.set({"seed", "1", "bench"}, SourceLevel::builtin);
  const GenerateOptions& o = options.values();
  const ResolvedModel model = resolve_model(o.model, default_search());
  if (!a.random_weights && !model.files) fail_file("{}; or measure without files: --random-weights", model.missing);
  if (o.threads > 0) at::set_num_threads(o.threads);
  const at::Device device = model_target(o).device;
  BenchResult result = describe(o, a, model, device);
  Progress progress;
  progress.stage(fmt::format("longtake {}, model {}, {}", kVersion, result.model, result.weights));
  if (is_magi(model.recipe))
    bench_magi(o, model, a.random_weights, a.rows, progress, result);
  else
    bench_skyreels(o, model, a, progress, result);
  if (result.profile) result.ceilings = measure_ceilings(device, o.dtype == "bf16" ? at::kBFloat16 : at::kFloat);
  result.host_peak_bytes = std::max({peak_resident_bytes(), device.is_cpu() ? result.denoise_peak_bytes : 0,
                                     device.is_cpu() ? result.decode_peak_bytes : 0});
  fmt::print("{}", a.json ? to_json(result).dump(2) + "\n" : to_text(result));
}

}  // namespace

void add_bench_generate(CLI::App& bench) {
  auto* verb =
      bench.add_subcommand("generate", "Times the generation of a video row by row, and its decoding; writes no video");
  auto a = std::make_shared<Arguments>();
  const auto given =
      add_option_flags(*verb, and_run_folder({"model", "prompt", "out", "seed", "conditioning.image", "video.crf",
                                              "video.preset", "run.dry_run", "run.json_log"}));
  add_model_config(*verb, given);
  verb->add_flag("--random-weights", a->random_weights,
                 "Sizes from the recipe, weights and texts at random: no files are needed");
  add_base_seed(*verb, given, "Start of the noise, and of random weights [default: 1]");
  verb->add_option("--rows", a->rows.limit, "Stop after so many rows of the schedule, without decoding [default: all]")
      ->type_name("ROWS")
      ->check(CLI::Range(1, 1'000'000));
  verb->add_option("--profile", a->rows.profiled,
                   "Show where the time of this row went: by operation and by kernel, gaps, and waits of the host; the row runs slower")
      ->type_name("ROW")
      ->check(CLI::Range(1, 1'000'000));
  verb->add_flag("--json", a->json, "Print JSON instead of a table");
  verb->footer(
      "Every generate option that shapes a run works here. Rows are timed when the device has finished them; decoding "
      "comes after\n"
      "denoising, not beside it. configs/plans holds plans whose work does not depend on a model's weights.\n"
      "Example: longtake bench generate --model-config skyreels-v2-df-1.3b-540p --random-weights --policy causal "
      "--rows 10");
  verb->callback([given, a] { run_bench_generate(*given, *a); });
}

}  // namespace longtake
