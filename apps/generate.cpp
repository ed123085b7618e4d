// longtake generate: a prompt becomes a video.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <random>

#include "apps/commands.h"
#include "apps/options_cli.h"
#include "apps/run_progress.h"
#include "apps/video_sink.h"
#include "base/error.h"
#include "cache/plan_replay.h"
#include "cache/plan_text.h"
#include "runtime/device.h"
#include "runtime/engine.h"
#include "runtime/report.h"

namespace longtake {
namespace {

// The plan needs no weights: sizes come from the files' headers where there are files, else from the recipe.
void dry_run(const GenerateOptions& o, const ResolvedModel& model, const RunRequest& request, const std::string& note) {
  const Architecture& a = model.recipe.architecture;
  PlanInput input;
  input.settings = request.settings;
  input.policy = request.policy;
  input.value_bytes = o.dtype == "fp32" ? 4 : 2;
  input.text_length = a.text_len > 0 ? a.text_len : 512;
  input.transformer_parameters = static_cast<double>(a.transformer_parameters);
  input.text_parameters = static_cast<double>(a.text_parameters);
  input.vae_parameters = static_cast<double>(a.vae_parameters);
  input.vae = make_vae_sizes(96, {1, 2, 4, 4}, 2, {false, true, true});
  if (model.files) {
    const ModelFiles& files = *model.files;
    input.transformer = transformer_config(files);
    input.vae = vae_sizes(files);
    input.transformer_parameters = parameters_in(files.transformer);
    input.text_parameters = parameters_in(files.text_encoder);
    input.vae_parameters = parameters_in(files.vae);
    const StepModel steps = step_model(model.recipe, load_step_embedding(files, o.fps == 16 ? 0 : 1), input.transformer.dim);
    input.preview =
        make_policy(request.policy, flow_timesteps(o.steps, o.shift), steps, request.settings.denoise.branches())->preview(o.steps);
  } else {
    if (a.dim == 0) model.require_files();
    input.transformer = {.dim = a.dim, .ffn_dim = a.ffn, .layers = a.layers, .heads = a.heads, .text_dim = a.text_dim, .freq_dim = a.freq_dim};
  }
  if (!note.empty()) fmt::print("{}\n", note);
  fmt::print("model: {} ({}), policy {}\n{}", model.recipe.name, model.files ? "files found" : "no files; sizes from the recipe", o.policy,
             plan_report(input));
}

void generate_video(const OptionSet& options, const ResolvedModel& model, const RunRequest& request, Progress& progress, JsonLog& log) {
  const GenerateOptions& o = options.values();
  VideoSink sink(o, options.to_json());  // fails now rather than after hours
  if (!o.record_plan.empty()) check_plan_writable(o.record_plan);
  if (o.threads > 0) at::set_num_threads(o.threads);
  const c10::InferenceMode inference;
  Engine engine(model, {open_device(o.device), o.dtype == "fp32" ? at::kFloat : at::kBFloat16});

  progress.stage("encoding the prompt");
  std::vector<std::string> texts{o.prompt};
  if (request.settings.denoise.branches() == 2) texts.push_back(o.negative);
  engine.encode(texts);
  if (engine.text(o.prompt).truncated)
    progress.note(fmt::format("the prompt is longer than the {} tokens this model reads: the rest has no effect", engine.text_length()));

  progress.stage("loading the model");
  engine.load();
  RunProgress run(progress, log, request.settings);
  GenerateHooks hooks = run.hooks();
  hooks.on_latents = [&](const WindowSpan& window, const at::Tensor& latents) {
    progress.stage(fmt::format("decoding window {}/{}", window.index + 1, request.settings.plan.windows.size()));
    sink.latents(window, latents);
  };
  hooks.on_frames = [&](const at::Tensor& frames) { sink.frames(frames); };
  PlanRecorder recorder(request.policy.attention, fmt::format("policy {}, model {}", o.plan.empty() ? o.policy : o.plan, model.recipe.name));
  if (!o.record_plan.empty())
    hooks.denoise.on_decision = [&, report = hooks.denoise.on_decision](const DecisionRecord& d) {
      report(d);
      recorder.add({d.window, d.chunk, d.step, o.steps, d.frames, d.plane}, d.branch, d.update, d.decision);
    };
  const RunStats stats = engine.run(request, hooks);
  progress.stage("writing the file");
  sink.finish();
  if (!o.record_plan.empty()) write_plan(o.record_plan, recorder.plan());

  const WorkCount total = stats.total();
  fmt::print("{}", stats_table(stats));
  fmt::print("total {:.1f} s, peak memory {}\n", progress.seconds(), format_bytes(static_cast<double>(peak_resident_bytes())));
  fmt::print("{}\n", o.out);
  log.event({{"event", "done"}, {"seconds", progress.seconds()}, {"denoise_seconds", stats.denoise_seconds},
             {"decode_seconds", stats.decode_seconds}, {"recomputed", total.recomputed}, {"reused", total.reused}, {"predicted", total.predicted},
             {"flops", total.flops}, {"flops_saved", total.flops_saved}, {"peak_bytes", peak_resident_bytes()}});
}

void run_generate(const GivenOptions& given) {
  OptionSet options = resolve_options(given);
  const GenerateOptions& o = options.values();
  validate(o);
  if (!o.plan.empty() && options.source("policy").level >= SourceLevel::config && options.source("policy").level >= options.source("plan").level)
    fail_usage("--plan {} and policy {} ({}) exclude each other; give one of them", o.plan, o.policy, options.source("policy").where);
  const ResolvedModel model = resolve_model(o.model, default_search());
  std::string note;
  if (o.dry_run) {
    const RunRequest request = make_request(o, &note);
    return dry_run(o, model, request, note);
  }
  if (!o.seed) {
    std::random_device random;
    options.set({"seed", fmt::format("{}", random()), "drawn at random"}, SourceLevel::flag);
  }
  const RunRequest request = make_request(o, &note);
  Progress progress;
  JsonLog log(o.json_log);
  log.event({{"event", "start"}, {"version", kVersion}, {"options", options.to_json()}});
  if (!note.empty()) progress.note(note);
  progress.stage(fmt::format("longtake {}, model {}, seed {}, policy {}", kVersion, model.recipe.name, *o.seed, o.policy));
  generate_video(options, model, request, progress, log);
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
      fmt::print("{}", resolve_options(*given).to_yaml());
    else
      run_generate(*given);
  });
}

}  // namespace longtake
