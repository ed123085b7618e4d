#include "apps/generate_magi.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/interrupt.h"
#include "apps/memory_gate.h"
#include "apps/options_cli.h"
#include "apps/run_inputs.h"
#include "apps/run_progress.h"
#include "apps/video_sink.h"
#include "base/error.h"
#include "runtime/families.h"
#include "runtime/magi_engine.h"
#include "runtime/magi_recipe.h"
#include "runtime/magi_report.h"
#include "runtime/memory_meter.h"
#include "runtime/report.h"

namespace longtake {
namespace {

// Reads the run's inputs; what they decide about the options is set there.
RunInputs read_inputs(OptionSet& options, const ContextRule& rule) {
  GenerateOptions o = options.values();
  if (const int64_t behind = o.context - rule.rest; o.context != 0 && behind % temporal_stride != 0)
    fail_usage("conditioning.context must be {}a multiple of {} frames for this model, found {}; use {}",
               rule.rest == 0 ? "" : fmt::format("{} more than ", rule.rest), temporal_stride, o.context,
               (behind / temporal_stride + 1) * temporal_stride + rule.rest);
  RunInputs inputs(o, rule);
  if (!o.video.empty() && o.context < temporal_stride)
    fail_usage("this model goes on from {} frames of a video or more, and there is a context of {}", temporal_stride + rule.rest, o.context);
  if (o.context != options.values().context)
    options.set({"conditioning.context", fmt::format("{}", o.context), "as long as the video allows"}, SourceLevel::flag);
  return inputs;
}

// The plan needs no weights. What the run would be told about memory stands behind it; captions that are kept already are not looked for.
void dry_run(const GenerateOptions& o, const ResolvedModel& model, MagiRequest request) {
  const ModelTarget target = planned_target(o);
  const MagiMemoryGate gate(model, target, o.precision);
  std::string memory_note;
  try {
    if (is_here(target) || o.memory_budget > 0) gate.pass(o, request, /*encodes=*/true, memory_note);
  } catch (const Error& error) {
    memory_note = error.what();
  }
  fmt::print("model: {} ({}), policy {}, on {}\n{}", model.recipe.name, model.files ? "files found" : "no files; sizes from the recipe", o.policy,
             target.device.is_cuda() ? "a GPU" : "the CPU", magi_plan_report(request, model.recipe, gate.plan(request, /*encodes=*/true)));
  if (!memory_note.empty()) fmt::print("{}\n", memory_note);
}

class MagiVideo {
 public:
  MagiVideo(const OptionSet& options, const ResolvedModel& model, const MagiRequest& request, const ModelTarget& target, Progress& progress)
      : o_(options.values()), model_(model), request_(request), target_(target), progress_(progress), log_(o_.json_log),
        sink_(o_, settings_of(options)) {
    log_.event({{"event", "start"}, {"version", kVersion}, {"options", settings_of(options)}});
  }

  void make(MagiEngine& engine, const MemoryPlan& plan, const RunInputs& inputs) {
    MemoryMeter memory(target_.device);
    memory.enter(MemoryStage::text);
    inputs.show(sink_);
    progress_.stage("encoding the prompt");
    engine.encode({request_.prompt});
    if (engine.caption(request_.prompt).truncated)
      progress_.note(fmt::format("the prompt is longer than the {} tokens this model reads: the rest has no effect",
                                 request_.config.model.caption_length));
    progress_.stage("loading the model");
    memory.enter(MemoryStage::load);
    engine.load();
    memory.enter(MemoryStage::denoise);
    try {
      const RunStats stats = engine.run(request_, hooks(memory));
      progress_.stage("writing the file");
      sink_.finish();
      report(stats, plan, memory);
    } catch (const Error& error) {
      if (error.code() != ExitCode::interrupted || sink_.frame_count() == 0) throw;
      sink_.finish(request_.frames());
      fail(ExitCode::interrupted, "{}: {} of {} frames are in {}", error.what(), sink_.frame_count(), request_.frames(), o_.out);
    }
  }

 private:
  // As the file's metadata has them: those that mean something, device and threads as found.
  nlohmann::ordered_json settings_of(const OptionSet& options) const {
    nlohmann::ordered_json settings = options.to_json(options_without_effect(model_.recipe));
    settings["run"]["device"] = target_.device.is_cuda() ? "cuda" : "cpu";
    settings["run"]["threads"] = at::get_num_threads();
    return settings;
  }

  MagiHooks hooks(MemoryMeter& memory) {
    const magi::VideoSettings settings = request_.settings();
    const int rows = static_cast<int>(magi::rows(settings.schedule, settings.size).size());
    progress_.stage(fmt::format("denoising {} chunks in {} rows", settings.size.chunks - settings.size.first, rows));
    progress_.rows_begin(rows);
    MagiHooks hooks;
    hooks.denoise.on_decision = [this](const DecisionRecord& d) { tokens_ += d.tokens, recomputed_ += d.recomputed; };
    hooks.denoise.on_row_end = [this](const RowEnd& end) {
      const double computed = tokens_ == 0 ? 1 : static_cast<double>(recomputed_) / static_cast<double>(tokens_);
      progress_.row_done(fmt::format("row {}/{}", end.row + 1, end.rows), 1 - computed);
      log_.event({{"event", "row"}, {"row", end.row}, {"finished", end.finished}, {"seconds", progress_.seconds()}});
    };
    hooks.on_latents = [&](const at::Tensor& latents) {
      sink_.latents(WindowSpan{}, latents);
      memory.enter(MemoryStage::decode);
    };
    hooks.on_frames = [this](const at::Tensor& frames) { sink_.frames(frames); };
    hooks.should_stop = InterruptGuard::requested;
    return hooks;
  }

  void report(const RunStats& stats, const MemoryPlan& plan, const MemoryMeter& memory) {
    fmt::print("{}", stats_table(stats));
    fmt::print("total {:.1f} s, peak memory {} ({} were predicted)\n", progress_.seconds(), format_bytes(memory.base() + memory.peak()),
               format_bytes(memory.base() + plan.peak()));
    fmt::print("{}\n", o_.out);
    log_.event({{"event", "done"}, {"seconds", progress_.seconds()}, {"denoise_seconds", stats.denoise_seconds},
                {"decode_seconds", stats.decode_seconds}, {"flops", stats.total().flops},
                {"peak_bytes", memory.base() + memory.peak()}, {"memory", memory.json(plan)}});
  }

  const GenerateOptions& o_;
  const ResolvedModel& model_;
  const MagiRequest& request_;
  const ModelTarget target_;
  Progress& progress_;
  JsonLog log_;
  VideoSink sink_;
  int64_t tokens_ = 0, recomputed_ = 0;  // of all decisions so far
};

}  // namespace

void generate_magi(OptionSet options, const ResolvedModel& model, bool extends) {
  const GenerateOptions& o = options.values();
  check_extends(o, extends);
  validate_run(o);
  check_length(options);
  const RunInputs inputs = read_inputs(options, magi_context(model.recipe));
  draw_seed(options);
  std::string note;
  MagiRequest request = make_magi_request(model.recipe, o, &note);
  request.given = inputs.given();
  request.decode_ahead = true;
  if (o.dry_run) {
    for (const std::string& text : {note, inputs.note()})
      if (!text.empty()) fmt::print("{}\n", text);
    return dry_run(o, model, request);
  }
  model.require_files();
  if (o.threads > 0) at::set_num_threads(o.threads);
  Progress progress;
  for (const std::string& text : {note, inputs.note()})
    if (!text.empty()) progress.note(text);
  progress.stage(fmt::format("longtake {}, model {}, seed {}, policy {}", kVersion, model.recipe.name, *o.seed, o.policy));
  const c10::InferenceMode inference;
  const InterruptGuard interrupt;
  const ModelTarget target = model_target(o);
  MagiEngine engine(model, target, quantised_as(model.recipe, target, o.precision));
  if (o.text_cache == "on") engine.cache_texts([&](const std::string& text) { progress.note(text); });
  std::string memory_note;
  const MemoryPlan plan = MagiMemoryGate(model, target, o.precision).pass(o, request, !engine.knows({request.prompt}), memory_note);
  if (!memory_note.empty()) progress.note(memory_note);
  MagiVideo(options, model, request, target, progress).make(engine, plan, inputs);
}

}  // namespace longtake
