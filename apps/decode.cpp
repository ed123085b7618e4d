// longtake decode RUN -o FILE: a run folder's latents as a video once more, with other settings; unfinished runs too.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "apps/commands.h"
#include "apps/model_family.h"
#include "apps/options_cli.h"
#include "apps/run_inputs.h"
#include "apps/video_sink.h"
#include "base/error.h"
#include "runtime/device.h"
#include "runtime/engine.h"
#include "runtime/families.h"
#include "runtime/progress.h"
#include "runtime/run_folder.h"
#include "runtime/video_model.h"

namespace longtake {
namespace {

// The options of the run that concern decoding, as flags of this verb: their text, key and help come from the schema.
constexpr const char* kKeys[] = {"out", "video.crf", "video.preset", "conditioning.only_new", "run.decode_latents", "run.vae_dtype",
                                 "run.device", "run.memory_budget", "run.threads"};

void run_decode(const std::string& run, const std::vector<OptionAssignment>& flags) {
  const auto folder = RunFolder::open(run, RunFolder::Access::read);
  OptionSet options;
  for (const OptionAssignment& flag : flags) options.set(flag, SourceLevel::flag);
  apply_record(options, folder->record(), run);
  GenerateOptions o = options.values();
  const auto given = [&](const char* key) { return options.source(key).level == SourceLevel::flag; };
  if (!given("run.memory_budget")) o.memory_budget = 0;  // the run's was for more than decoding
  const ResolvedModel model = resolve_model(o.model, default_search());
  check_options(options, model.recipe);
  const std::unique_ptr<VideoRequest> request = make_video_request(model.recipe, o);
  const RunLayout layout = request->layout();
  const RunProgressMade made = folder->attach(layout);
  if (made.windows == 0 && made.chunks == 0) fail_file("{} holds no finished chunk yet; go on with the run first (generate --resume)", run);

  if (o.threads > 0) at::set_num_threads(o.threads);
  const c10::InferenceMode inference;
  check_same_vae(folder->record(), model.require_files(), run);
  // Without the transformer, whose precision may need another device.
  const ModelTarget target{.device = open_device(o.device), .dtype = *dtype_named(o.dtype), .vae_dtype = dtype_named(o.vae_dtype)};
  std::optional<RunInputs> inputs;
  if (!o.video.empty() && !o.only_new) {
    check_same_file(folder->record(), "conditioning.video", o.video, run);
    GenerateOptions read = o;
    read.end_image.clear();  // it is in the latents
    inputs.emplace(read, context_rule(model.recipe, read));
    request->shown_frames = inputs->shown_frames();
  }
  std::string note;
  settle_decoding(model, target, given("run.decode_latents") && o.decode_latents > 0, o, *request, note);
  Progress progress;
  if (!note.empty()) progress.note(note);
  nlohmann::ordered_json settings = options.to_json(options_without_effect(model.recipe));
  if (without_effect(model.recipe, "run.decode_latents").empty()) settings["run"]["decode_latents"] = o.decode_latents;
  for (const char* key : {"resume", "overwrite_run"}) settings["run"].erase(key);
  VideoSink sink(o, settings);
  if (inputs) inputs->show(sink);
  GenerateHooks hooks;
  hooks.on_window_start = [&](int window) { progress.stage(fmt::format("decoding window {}/{}", window + 1, layout.windows.size())); };
  hooks.on_latents = [&](int window, const at::Tensor& latents) { sink.latents(window, latents); };
  hooks.on_frames = [&](const at::Tensor& frames) { sink.frames(frames); };
  make_video_model(model, target, "auto")->decode(*request, *folder, hooks);
  const int64_t planned = request->frames();
  if (sink.frame_count() == 0) fail_file("{} holds no frames beyond those of the overlap yet; go on with the run first (generate --resume)", run);
  progress.stage("writing the file");
  sink.finish(planned);
  if (sink.frame_count() < planned) progress.note(fmt::format("the run is not finished: {} of {} frames", sink.frame_count(), planned));
  fmt::print("{}\n", o.out);
}

}  // namespace

void add_decode(CLI::App& program) {
  auto* verb = program.add_subcommand("decode", "Make a video of a run folder's latents, with other settings or of an unfinished run");
  verb->footer("Example: longtake decode out.mp4.run -o smaller.mp4 --crf 28 --preset slower");
  auto run = std::make_shared<std::string>();
  verb->add_option("RUN", *run, "A run folder: OUT.run beside the output of generate (kept while a run is unfinished, or with --keep-run)")
      ->required();
  auto flags = std::make_shared<std::vector<OptionAssignment>>();
  for (const char* key : kKeys) {
    const OptionInfo& info = *find_option(key);
    CLI::Option* option = add_option_flag(*verb, info, flags);
    option->group("Options");
    if (info.key != "out" && info.key != "run.memory_budget") option->description(info.help + " [default: as in the run]");
  }
  verb->get_option("--out")->required();
  verb->callback([run, flags] { run_decode(*run, *flags); });
}

}  // namespace longtake
