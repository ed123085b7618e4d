// longtake bench generate: the denoising loop and the decoder, timed row by row, with or without a model's files.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/bench.h"
#include "apps/bench_report.h"
#include "apps/commands.h"
#include "apps/interrupt.h"
#include "apps/memory_gate.h"
#include "apps/options_cli.h"
#include "apps/row_profile.h"
#include "apps/run_progress.h"
#include "base/error.h"
#include "runtime/device.h"
#include "runtime/device_timer.h"
#include "runtime/engine.h"
#include "runtime/machine.h"
#include "runtime/stopwatch.h"

namespace longtake {
namespace {

constexpr const char* kPrompt = "a red circle moves from left to right over grass";  // of models with files

struct Arguments {
  bool random_weights = false, json = false;
  int rows = 0;     // 0: all
  int profile = 0;  // the row that is profiled, counted from 1 over all windows; 0: none
};

// Ends a run that has been watched long enough.
struct EnoughRows {};

// Watches a run by its hooks: the device stands still at the end of every row, and only there.
class RowClock {
 public:
  RowClock(BenchResult& result, const at::Device& device, int limit, int profiled)
      : result_(result), device_(device), limit_(limit), profiled_(profiled), profiler_(device), memory_(device) {}

  void watch(GenerateHooks& hooks) {
    hooks.on_window_start = [this, before = hooks.on_window_start](const WindowSpan& window, const Schedule& schedule) {
      if (before) before(window, schedule);
      window_ = window.index;
      decode_ended();
      begin_row();
    };
    hooks.denoise.on_decision = [this, before = hooks.denoise.on_decision](const DecisionRecord& d) {
      if (before) before(d);
      if (d.update && d.branch == 0) ++chunks_;
    };
    hooks.denoise.on_row_end = [this](const RowEnd& end) { row_ended(end); };
    hooks.on_latents = [this](const WindowSpan&, const at::Tensor&) { memory_.emplace(device_), decoding_ = true; };
    hooks.on_frames = [this](const at::Tensor&) { synchronize(device_); };  // within the decoder's own clock
  }

  // Of the last window, after the run.
  void decode_ended() {
    if (decoding_) result_.decode_peak_bytes = std::max(result_.decode_peak_bytes, memory_->bytes());
    decoding_ = false;
    memory_.emplace(device_);
  }

 private:
  bool is_profiled() const { return profiled_ > 0 && static_cast<int>(result_.rows.size()) + 1 == profiled_; }

  void begin_row() {
    synchronize(device_);
    chunks_ = 0;
    if (is_profiled()) profiler_.begin();
    begin_ = Clock::now();
  }

  void row_ended(const RowEnd& end) {
    synchronize(device_);
    BenchRow row{window_, end.row, chunks_, {}, std::chrono::duration<double>(Clock::now() - begin_).count()};
    if (is_profiled()) result_.profile = profiler_.end(window_, end.row);
    const WorkCount all = end.stats.total(), before = result_.stats.total();
    row.work = {all.recomputed - before.recomputed, all.reused - before.reused, all.predicted - before.predicted,
                all.flops - before.flops, all.flops_saved - before.flops_saved};
    result_.rows.push_back(row);
    result_.stats = end.stats;
    result_.denoise_peak_bytes = std::max(result_.denoise_peak_bytes, memory_->bytes());
    if (static_cast<int>(result_.rows.size()) == limit_ && limit_ < result_.rows_planned) throw EnoughRows{};
    begin_row();
  }

  using Clock = std::chrono::steady_clock;
  BenchResult& result_;
  const at::Device device_;
  const int limit_, profiled_;
  RowProfiler profiler_;
  std::optional<PeakMemory> memory_;
  bool decoding_ = false;
  int window_ = 0, chunks_ = 0;
  Clock::time_point begin_;
};

BenchResult describe(const GenerateOptions& o, const Arguments& a, const ResolvedModel& model,
                     const RunRequest& request, const at::Device& device) {
  BenchResult r;
  r.version = kVersion, r.model = model.recipe.name, r.dtype = o.dtype;
  r.weights = a.random_weights ? fmt::format("random weights (seed {})", request.seed)
                               : "weights from " + model.files->folder.string();
  const Machine machine = describe_machine(device);
  r.device = device.is_cpu() ? fmt::format("{} ({} threads)", machine.cpu, machine.threads) : machine.gpu;
  r.policy = o.plan.empty() ? "policy " + o.policy : "plan " + o.plan;
  r.frames = request.settings.plan.request.frames, r.height = o.size.height, r.width = o.size.width;
  r.steps = o.steps, r.ar_step = o.ar_step, r.branches = request.settings.denoise.branches();
  for (const WindowSpan& window : request.settings.plan.windows)
    r.rows_planned += window_schedule(request.settings, window).rows();
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

void measure(Engine& engine, const RunRequest& request, const Arguments& a, Progress& progress, BenchResult& result) {
  JsonLog log("");
  RunProgress shown(progress, log, request.settings);
  GenerateHooks hooks = shown.hooks();
  const InterruptGuard interrupt;
  hooks.should_stop = InterruptGuard::requested;
  RowClock clock(result, engine.target().device, a.rows, a.profile);
  clock.watch(hooks);
  try {
    result.decode_seconds = engine.run(request, hooks).decode_seconds;
    clock.decode_ended();
  } catch (const EnoughRows&) {
  }
}

void run_bench_generate(const GivenOptions& given, const Arguments& a) {
  OptionSet options = resolve_options(given);
  check_one_decider(options);
  options.set({"prompt", kPrompt, "bench"}, SourceLevel::flag);
  if (!options.values().seed) options.set({"seed", "1", "bench"}, SourceLevel::builtin);
  const GenerateOptions& o = options.values();
  std::string note;
  RunRequest request = make_request(o, &note);
  const ResolvedModel model = resolve_model(o.model, default_search());
  if (!a.random_weights && !model.files) fail_file("{}; or measure without files: --random-weights", model.missing);
  if (o.threads > 0) at::set_num_threads(o.threads);
  const ModelTarget target = model_target(o);
  const at::Device device = target.device;
  BenchResult result = describe(o, a, model, request, device);
  const int rows = a.rows > 0 ? std::min(a.rows, result.rows_planned) : result.rows_planned;
  if (a.profile > rows) fail_usage("--profile {}: the run has {} rows", a.profile, rows);
  Progress progress;
  if (!note.empty()) progress.note(note);
  GenerateOptions settled = o;
  std::string memory_note;
  const MemoryPlan plan = MemoryGate(model, target, o.fps, a.random_weights).pass(settled, request, memory_note);
  if (!memory_note.empty()) progress.note(memory_note);
  // On the CPU the process is measured as a whole.
  const int64_t base = result.base_bytes = device.is_cpu() ? resident_bytes() : 0;
  result.denoise_predicted_bytes = base + std::llround(plan.denoise.total());
  result.decode_predicted_bytes = base + std::llround(plan.decode.total());
  progress.stage(fmt::format("longtake {}, model {}, {}", kVersion, result.model, result.weights));
  const c10::InferenceMode inference;
  std::optional<Engine> engine;
  {
    const Stopwatch watch(result.setup_seconds);
    engine.emplace(model, target, a.random_weights ? std::optional(request.seed) : std::nullopt);
    engine->encode(request.all_texts());
    engine->load();
    synchronize(device);
  }
  {
    const Stopwatch watch(result.warmup_seconds);
    warm_up(*engine, request, progress);
  }
  result.weight_bytes = engine->transformer().weight_bytes();
  result.precision = engine->target().fp8 ? "fp8" : o.dtype;
  measure(*engine, request, a, progress, result);
  if (result.profile) result.ceilings = measure_ceilings(device, engine->target().dtype);
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
  verb->add_option("--rows", a->rows, "Stop after so many rows of the schedule, without decoding [default: all]")
      ->type_name("ROWS")
      ->check(CLI::Range(1, 1'000'000));
  verb->add_option("--profile", a->profile,
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
