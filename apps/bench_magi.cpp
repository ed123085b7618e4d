#include "apps/bench_magi.h"

#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include "apps/interrupt.h"
#include "apps/memory_gate.h"
#include "apps/row_clock.h"
#include "runtime/device_timer.h"
#include "runtime/magi_engine.h"
#include "runtime/stopwatch.h"

namespace longtake {
namespace {

// A first row, so that what libraries do once is not counted.
void warm_up(MagiEngine& engine, const MagiRequest& request) {
  GenerateHooks hooks;
  hooks.denoise.on_row_end = [](const RowEnd&) { throw EnoughRows{}; };
  try {
    engine.run(request, hooks);
  } catch (const EnoughRows&) {
  }
  synchronize(engine.target().device);
}

void measure(MagiEngine& engine, const MagiRequest& request, const WatchedRows& rows, Progress& progress, BenchResult& result) {
  RowClock clock(result, engine.target().device, rows);
  GenerateHooks hooks;
  hooks.on_window_start = [&](int window) { clock.begin_window(window); };
  hooks.denoise.on_decision = [&](const DecisionRecord& record) { clock.decided(record); };
  hooks.denoise.on_row = [&](int row, int) { progress.row_done(fmt::format("row {}", row + 1), 0); };
  hooks.denoise.on_row_end = [&](const RowEnd& end) { clock.row_ended(end); };
  hooks.on_latents = [&](int, const at::Tensor&) { clock.begin_decoding(); };
  hooks.on_frames = [&](const at::Tensor&) { synchronize(engine.target().device); };  // within the decoder's own clock
  progress.rows_begin(result.rows_planned);
  const InterruptGuard interrupt;
  hooks.should_stop = InterruptGuard::requested;
  try {
    result.decode_seconds = engine.run(request, hooks).decode_seconds;
    clock.decode_ended();
  } catch (const EnoughRows&) {
  }
}

}  // namespace

void bench_magi(const GenerateOptions& o, const ResolvedModel& model, bool random, const WatchedRows& rows, Progress& progress, BenchResult& result) {
  std::string note;
  MagiRequest request = make_magi_request(model.recipe, o, &note);
  if (!note.empty()) progress.note(note);
  const ModelTarget target = model_target(o);
  const magi::QuantisedAs as = quantised_as(model.recipe, target, o.precision);
  result.policy = fmt::format("{}, keys {}", o.plan.empty() ? "policy " + o.policy : "plan " + o.plan, o.key_chunks);
  result.frames = request.frames(), result.in_flight = o.in_flight, result.branches = request.config.run.branches;
  result.rows_planned = request.layout().rows();
  rows.check(result.rows_planned);
  GenerateOptions settled = o;
  std::string memory_note;
  const MemoryPlan plan = MagiMemoryGate(model, target, o.precision, random).pass(settled, request, /*encodes=*/!random, memory_note);
  if (!memory_note.empty()) progress.note(memory_note);
  result.predict(plan, target.device.is_cpu());
  const c10::InferenceMode inference;
  std::optional<MagiEngine> engine;
  {
    const Stopwatch watch(result.setup_seconds);
    engine.emplace(model, target, as, random ? std::optional(request.seed) : std::nullopt);
    engine->encode(request.prompts);
    engine->load();
    synchronize(target.device);
  }
  {
    const Stopwatch watch(result.warmup_seconds);
    warm_up(*engine, request);
  }
  result.weight_bytes = engine->transformer().weight_bytes();
  result.precision = engine->transformer().in_fp8() > 0 ? "fp8" : o.dtype;
  measure(*engine, request, rows, progress, result);
}

}  // namespace longtake
