#include "apps/generate_magi.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/interrupt.h"
#include "apps/options_cli.h"
#include "apps/run_inputs.h"
#include "apps/run_progress.h"
#include "apps/video_sink.h"
#include "base/error.h"
#include "base/pending_file.h"
#include "base/utf8.h"
#include "cache/plan_replay.h"
#include "cache/plan_text.h"
#include "runtime/families.h"
#include "runtime/magi_engine.h"
#include "runtime/magi_recipe.h"
#include "runtime/magi_report.h"
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

class MagiVideo {
 public:
  MagiVideo(const OptionSet& options, const ResolvedModel& model, const MagiRequest& request, const ModelTarget& target, Progress& progress)
      : o_(options.values()), model_(model), request_(request), target_(target), progress_(progress), log_(o_.json_log),
        sink_(o_, settings_of(options)),
        recorder_(AttentionScheme::causal, fmt::format("policy {}, model {}", o_.plan.empty() ? o_.policy : o_.plan, model.recipe.name),
                  request.settings().schedule.clean_pass) {
    if (!o_.record_plan.empty()) check_writable(o_.record_plan);
    log_.event({{"event", "start"}, {"version", kVersion}, {"options", settings_of(options)}});
  }

  void make(const RunInputs& inputs) {
    MagiEngine engine(model_, target_, quantised_as(model_.recipe, target_, o_.precision));
    inputs.show(sink_);
    progress_.stage("encoding the prompt");
    engine.encode(request_.prompts);
    for (const std::string& prompt : request_.prompts)
      if (engine.caption(prompt).truncated)
        progress_.note(fmt::format("the prompt '{}' is longer than the {} tokens this model reads: the rest has no effect",
                                   printable(prompt.substr(0, 60)), request_.config.model.caption_length));
    progress_.stage("loading the model");
    engine.load();
    try {
      const RunStats stats = engine.run(request_, hooks());
      progress_.stage("writing the file");
      sink_.finish();
      if (!o_.record_plan.empty()) write_plan(o_.record_plan, recorder_.plan());
      report(stats);
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

  MagiHooks hooks() {
    const magi::VideoSettings settings = request_.settings();
    const int rows = static_cast<int>(magi::rows(settings.schedule, settings.size).size());
    progress_.stage(fmt::format("denoising {} chunks in {} rows", settings.size.chunks - settings.size.first, rows));
    progress_.rows_begin(rows);
    MagiHooks hooks;
    hooks.denoise.on_decision = [this](const DecisionRecord& d) {
      tokens_ += d.tokens, recomputed_ += d.recomputed;
      if (!o_.record_plan.empty()) recorder_.add({d.window, d.chunk, d.step, o_.steps, d.frames, d.plane}, d.branch, d.update, d.decision);
    };
    hooks.denoise.on_row_end = [this](const RowEnd& end) {
      const double computed = tokens_ == 0 ? 1 : static_cast<double>(recomputed_) / static_cast<double>(tokens_);
      progress_.row_done(fmt::format("row {}/{}", end.row + 1, end.rows), 1 - computed);
      log_.event({{"event", "row"}, {"row", end.row}, {"finished", end.finished}, {"seconds", progress_.seconds()}});
    };
    hooks.on_latents = [this](const at::Tensor& latents) { sink_.latents(WindowSpan{}, latents); };
    hooks.on_frames = [this](const at::Tensor& frames) { sink_.frames(frames); };
    hooks.should_stop = InterruptGuard::requested;
    return hooks;
  }

  void report(const RunStats& stats) {
    fmt::print("{}", stats_table(stats));
    fmt::print("total {:.1f} s, peak memory {}\n", progress_.seconds(), format_bytes(static_cast<double>(peak_resident_bytes())));
    fmt::print("{}\n", o_.out);
    log_.event({{"event", "done"}, {"seconds", progress_.seconds()}, {"denoise_seconds", stats.denoise_seconds},
                {"decode_seconds", stats.decode_seconds}, {"flops", stats.total().flops}, {"peak_bytes", peak_resident_bytes()}});
  }

  const GenerateOptions& o_;
  const ResolvedModel& model_;
  const MagiRequest& request_;
  const ModelTarget target_;
  Progress& progress_;
  JsonLog log_;
  VideoSink sink_;
  PlanRecorder recorder_;
  int64_t tokens_ = 0, recomputed_ = 0;  // of all decisions so far
};

}  // namespace

void generate_magi(OptionSet options, const ResolvedModel& model, bool extends) {
  const GenerateOptions& o = options.values();
  check_extends(o, extends);
  validate_run(o);
  check_length(options);
  check_one_decider(options);
  const RunInputs inputs = read_inputs(options, magi_context(model.recipe));
  draw_seed(options);
  std::string note;
  MagiRequest request = make_magi_request(model.recipe, o, &note);
  request.given = inputs.given();
  request.decode_ahead = true;
  if (o.dry_run) {
    for (const std::string& text : {note, inputs.note()})
      if (!text.empty()) fmt::print("{}\n", text);
    fmt::print("model: {} ({}), policy {}\n{}", model.recipe.name, model.files ? "files found" : "no files; sizes from the recipe", o.policy,
               magi_plan_report(request, model.recipe, o.dtype == "fp32" ? 4 : 2));
    return;
  }
  model.require_files();
  if (o.threads > 0) at::set_num_threads(o.threads);
  Progress progress;
  for (const std::string& text : {note, inputs.note()})
    if (!text.empty()) progress.note(text);
  progress.stage(fmt::format("longtake {}, model {}, seed {}, policy {}", kVersion, model.recipe.name, *o.seed, o.policy));
  const c10::InferenceMode inference;
  const InterruptGuard interrupt;
  MagiVideo(options, model, request, model_target(o), progress).make(inputs);
}

}  // namespace longtake
