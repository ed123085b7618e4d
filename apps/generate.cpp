// longtake generate: a prompt becomes a video.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/interrupt.h"
#include "apps/model_family.h"
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
#include "runtime/memory_meter.h"
#include "runtime/report.h"
#include "runtime/run_folder.h"
#include "runtime/video_model.h"
#ifdef LONGTAKE_VIDEO_IO
#include "video_io/png.h"
#endif

namespace longtake {
namespace {

// What a run is begun or taken up with, and what its end leaves of its folder.
class KeptRun {
 public:
  KeptRun(const GenerateOptions& options, const RunRecord& record, Progress& progress)
      : path_(RunFolder::beside(options.out)), keep_(options.keep_run), verb_(options.video.empty() ? "generate" : "extend"), out_(options.out) {
    if (RunFolder::exists(path_)) {
      if (options.resume) {
        folder_ = RunFolder::open(path_, RunFolder::Access::write);
        return;
      }
      if (!options.overwrite_run)
        fail_usage("{} holds a run that was not finished, or was kept; go on with it (--resume), or throw it away (--overwrite-run)",
                   path_.string());
      RunFolder::remove(path_);
    } else if (options.resume) {
      progress.note(fmt::format("there is no run in {} to go on with: beginning a new one", path_.string()));
    }
    folder_ = RunFolder::create(path_, record);
  }

  RunFolder& folder() { return *folder_; }

  // The output is complete.
  void finish() {
    folder_->mark_finished();
    if (!keep_) folder_->remove();
  }

  // The run ends early: what could be taken up again stays. Returns how, or "".
  std::string leave() {
    if (!folder_->worth_keeping()) {
      folder_->remove();
      return "";
    }
    return fmt::format("what is done is kept; go on with: longtake {} --resume -o {}", verb_, out_);
  }

 private:
  std::filesystem::path path_;
  bool keep_;
  std::string verb_, out_;
  std::unique_ptr<RunFolder> folder_;
};

void report(const GenerateOptions& o, const RunStats& stats, const MemoryPlan& plan, const MemoryMeter& memory, Progress& progress, JsonLog& log) {
  const WorkCount total = stats.total();
  fmt::print("{}", stats_table(stats));
  fmt::print("total {:.1f} s, peak memory {} ({} were predicted)\n", progress.seconds(), format_bytes(memory.base() + memory.peak()),
             format_bytes(memory.base() + plan.peak()));
  fmt::print("{}\n", o.out);
  log.event({{"event", "done"}, {"seconds", progress.seconds()}, {"denoise_seconds", stats.denoise_seconds},
             {"decode_seconds", stats.decode_seconds}, {"checkpoint_seconds", stats.checkpoint_seconds},
             {"recomputed", total.recomputed}, {"reused", total.reused}, {"predicted", total.predicted},
             {"flops", total.flops}, {"flops_saved", total.flops_saved}, {"peak_bytes", memory.base() + memory.peak()},
             {"memory", memory.json(plan)}});
}

// The settings as the file's metadata has them: device and threads as found, and without what concerns this call alone.
nlohmann::ordered_json settings_of(const OptionSet& options, const Recipe& recipe, const std::string& device, int threads) {
  nlohmann::ordered_json settings = options.to_json(options_without_effect(recipe));
  settings["run"]["device"] = device;
  settings["run"]["threads"] = threads;
  for (const char* key : {"resume", "overwrite_run"}) settings["run"].erase(key);
  return settings;
}

void generate_video(OptionSet& options, const ResolvedModel& model, VideoRequest& request, const RunInputs& inputs, const RunRecord* begun,
                    Progress& progress, JsonLog& log) {
  const GenerateOptions& o = options.values();
  if (o.threads > 0) at::set_num_threads(o.threads);
  const ModelTarget target = model_target(o);
  const at::Device device = target.device;
  const std::string device_name = device.is_cuda() ? "cuda" : "cpu";
  const c10::InferenceMode inference;
  model.require_files();
  const std::unique_ptr<VideoModel> engine = make_video_model(model, target, o.precision);
  if (o.text_cache == "on") engine->cache_texts([&](const std::string& text) { progress.note(text); });
  GenerateOptions settled = o;
  std::string memory_note;
  const MemoryPlan plan = RunMemory(model, target, o, frame_target(o, /*grows=*/true)).settle(settled, request, !engine->knows(request.all_texts()), memory_note);
  if (settled.decode_latents != o.decode_latents)
    options.set({"run.decode_latents", fmt::format("{}", settled.decode_latents), "as memory allows"}, SourceLevel::flag);
  if (!memory_note.empty()) progress.note(memory_note);
  VideoSink sink(o, settings_of(options, model.recipe, device_name, at::get_num_threads()));  // fails now rather than after hours
  if (!o.record_plan.empty()) check_writable(o.record_plan);
  const RunRecord record = make_run_record(o, model.require_files(), kVersion, device_name, at::get_num_threads());
  if (begun) {
    check_same_run(*begun, record, model.recipe, options, RunFolder::beside(o.out).string());
    if (const std::string note = environment_note(*begun, record); !note.empty()) progress.note(note);
  }
  KeptRun kept(o, record, progress);
  if (begun) kept.folder().attach(request.layout());  // damage is told of before anything is loaded, and does not ask for another resume
  sink.grow_in(kept.folder().growing_video());

  const auto leave = [&](const Error& error) {
    const std::string how = kept.leave();
    throw Error(error.code(), how.empty() ? error.what() : fmt::format("{}; {}", error.what(), how));
  };
  try {
    MemoryMeter memory(device);
    memory.enter(MemoryStage::text);
    inputs.show(sink);
    progress.stage("encoding the prompt");
    engine->encode(request.all_texts());
    for (const std::string& prompt : request.all_prompts())
      if (engine->truncated(prompt))
        progress.note(fmt::format("the prompt '{}' is longer than the {} tokens this model reads: the rest has no effect", printable(prompt.substr(0, 60)), engine->text_length()));

    progress.stage("loading the model");
    memory.enter(MemoryStage::load);
    engine->load();
    memory.enter(MemoryStage::denoise);
    const RunLayout layout = request.layout();
    RunProgress run(progress, log, layout);
    GenerateHooks hooks = run.hooks();
    hooks.on_latents = [&](int window, const at::Tensor& latents) {
      sink.latents(window, latents);
      if (window + 1 == static_cast<int>(layout.windows.size())) memory.enter(MemoryStage::decode);
    };
    hooks.on_frames = [&](const at::Tensor& frames) {
      const int64_t before = sink.playable();
      sink.frames(frames);
      if (sink.playable() == before) return;
      if (before == 0) progress.note(fmt::format("[{:6.1f} s] the first {} frames can be played: {}", progress.seconds(), sink.playable(),
                                                 kept.folder().growing_video().string()));
      log.event({{"event", "playable"}, {"frames", sink.playable()}, {"seconds", progress.seconds()}});
    };
#ifdef LONGTAKE_VIDEO_IO
    std::optional<LatentPreview> preview;
    if (o.preview == "latent") preview.emplace(engine->preview());
    if (preview)
      hooks.on_chunk = [&](int window, int chunk, const at::Tensor& latents) {
        write_png(kept.folder().preview(window, chunk), preview->picture(latents));
      };
#endif
    PlanRecorder recorder(request.chosen_policy().attention, fmt::format("policy {}, model {}", o.plan.empty() ? o.policy : o.plan, model.recipe.name),
                          request.extras());
    if (!o.record_plan.empty())
      hooks.denoise.on_decision = [&, report = hooks.denoise.on_decision](const DecisionRecord& d) {
        report(d);
        recorder.add({d.window, d.chunk, d.step, o.steps, d.frames, d.plane}, d.branch, d.update, d.decision);
      };
    hooks.on_note = [&](const std::string& text) { progress.note(text); };
    const InterruptGuard interrupt;
    hooks.should_stop = InterruptGuard::requested;
    const int64_t planned = request.frames();
    try {
      const RunStats stats = engine->run(request, hooks, &kept.folder());
      progress.stage("writing the file");
      sink.finish();
      if (!o.record_plan.empty()) write_plan(o.record_plan, recorder.plan());
      report(o, stats, plan, memory, progress, log);
    } catch (const Error& error) {
      if (error.code() != ExitCode::interrupted || sink.frame_count() == 0) throw;
      sink.finish(planned);
      fail(ExitCode::interrupted, "{}: {} of {} {}frames are in {}", error.what(), sink.frame_count(), planned, o.video.empty() ? "" : "new ", o.out);
    }
  } catch (const Error& error) {
    leave(error);
  } catch (const std::exception& error) {
    if (const std::string how = kept.leave(); !how.empty()) progress.note(how);
    throw;
  }
  kept.finish();
}

// Whether the last call left nothing to do but tidying up: it had put the output in place, where it still is.
bool was_finished(const GenerateOptions& o) {
  return o.resume && !o.overwrite_run && RunFolder::is_finished(RunFolder::beside(o.out)) && std::filesystem::exists(o.out);
}

void tidy_up(const GenerateOptions& o, bool keep, Progress& progress) {
  const auto folder = RunFolder::beside(o.out);
  progress.note(fmt::format("the run in {} is finished", folder.string()));
  if (!keep) RunFolder::remove(folder);
  fmt::print("{}\n", o.out);
}

}  // namespace

void run_generate(OptionSet options, bool extends) {
  const GenerateOptions& o = options.values();
  Progress progress;
  const bool finished = was_finished(o);
  // Without run.json the folder was about to go when the program died.
  if (finished && !std::filesystem::exists(RunFolder::beside(o.out) / "run.json")) return tidy_up(o, /*keep=*/false, progress);
  std::optional<RunRecord> begun;
  if (const auto folder = RunFolder::beside(o.out); o.resume && !o.out.empty() && RunFolder::exists(folder)) {
    begun = RunFolder::open(folder, RunFolder::Access::read)->record();
    apply_record(options, *begun, folder.string());
    if (const std::string& plan = begun->options.at("run.record_plan"); !plan.empty())
      progress.note(fmt::format("the plan {} will not be written: the decisions of the interrupted part are not known any more", plan));
  }
  const ResolvedModel model = resolve_model(o.model, default_search());
  if (!begun) options.apply_recipe(model.recipe.defaults);
  check_options(options, model.recipe);
  check_extends(o, extends);
  validate(o, model.recipe);
  check_length(options);
  if (finished) {
    check_same_options(*begun, model.recipe, options, RunFolder::beside(o.out).string());
    return tidy_up(o, o.keep_run, progress);
  }
  if (o.resume && !o.record_plan.empty())
    fail_usage("--record-plan cannot go with --resume: the decisions of the interrupted part are not known any more; leave one of them out");
#ifndef LONGTAKE_VIDEO_IO
  if (o.preview != "none") fail_usage("this build writes no pictures (LONGTAKE_VIDEO_IO is off): leave out --preview");
#endif
  check_one_decider(options);
  const RunInputs inputs = read_inputs(options, model.recipe);
  if (!o.dry_run) draw_seed(options);
  std::string note;
  const std::unique_ptr<VideoRequest> request = make_video_request(model.recipe, o, &note);
  inputs.give(*request);
  request->run_settings().decode_ahead = true;
  if (o.dry_run) {
    for (const std::string& text : {inputs.note(), note})
      if (!text.empty()) fmt::print("{}\n", text);
    fmt::print("{}", dry_run_report(model, o, *request));
    return;
  }
  JsonLog log(o.json_log);
  log.event({{"event", "start"}, {"version", kVersion}, {"options", options.to_json(options_without_effect(model.recipe))}});
  for (const std::string& text : {note, inputs.note()})
    if (!text.empty()) progress.note(text);
  progress.stage(fmt::format("longtake {}, model {}, seed {}, policy {}", kVersion, model.recipe.name, *o.seed, o.policy));
  generate_video(options, model, *request, inputs, begun ? &*begun : nullptr, progress, log);
}

namespace {

// What means nothing to the model would be refused when --config reads it.
void print_config(const GivenOptions& given) {
  const OptionSet options = resolve_options(given);
  const Recipe recipe = resolve_model(options.values().model, default_search()).recipe;
  fmt::print("{}", options.to_yaml(options_without_effect(recipe)));
}

}  // namespace

void add_generate(CLI::App& program) {
  auto* verb = program.add_subcommand("generate", "Generate a video from a prompt");
  verb->footer("Example: longtake generate -p \"a red circle moves from left to right over grass\" -o out.mp4");
  const auto given = add_option_flags(*verb);
  auto print = std::make_shared<bool>(false);
  verb->add_flag("--print-config", *print, "Print all options as YAML and stop");
  verb->callback([given, print] {
    if (*print)
      print_config(*given);
    else
      run_generate(given_options(*given), /*extends=*/false);
  });
}

}  // namespace longtake
