// longtake generate: a prompt becomes a video.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "apps/commands.h"
#include "apps/options_cli.h"
#include "base/error.h"
#include "models/skyreels/backbone.h"
#include "models/weights/safetensors.h"
#include "runtime/device.h"
#include "runtime/generate.h"
#include "runtime/model.h"
#include "runtime/policies.h"
#include "runtime/progress.h"
#include "runtime/recipe.h"
#include "runtime/report.h"
#include "apps/video_sink.h"

namespace longtake {
namespace {

GenerateSettings settings_of(const GenerateOptions& o, const PolicyChoice& policy, std::string* note) {
  GenerateSettings s;
  s.plan = plan_video(o, note);
  s.height = o.size.height;
  s.width = o.size.width;
  s.steps = o.steps;
  s.shift = o.shift;
  s.ar_step = o.ar_step;
  s.history = o.history == "carry" ? History::carry : History::reencode;
  s.decode_latents = o.decode_latents;
  s.denoise.attention = policy.attention;
  s.denoise.guidance = o.guidance;
  s.denoise.prefix_noise = o.addnoise;
  s.denoise.noise_every_row = s.denoise.overwritten_first_sample = o.parity != "none";
  return s;
}

// Events as JSON lines, flushed one by one so that others can follow.
class JsonLog {
 public:
  explicit JsonLog(const std::string& path) {
    if (path.empty()) return;
    file_.open(path);
    if (!file_) fail_file("{} cannot be written; choose another --json-log", path);
  }
  void event(nlohmann::ordered_json line) {
    if (file_.is_open()) file_ << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n' << std::flush;
  }

 private:
  std::ofstream file_;
};

class GenerateRun {
 public:
  explicit GenerateRun(const GivenOptions& given) : options_(resolve_options(given)) {}

  void print_config() const { fmt::print("{}", options_.to_yaml()); }

  void run() {
    const GenerateOptions& o = options_.values();
    validate(o);
    policy_ = choose_policy(parse_policy(o.policy), o.parity != "none");
    std::string note;
    settings_ = settings_of(o, policy_, &note);
    model_ = resolve_model(o.model, default_search());
    if (o.dry_run) return dry_run(note);
    if (!o.seed) {
      std::random_device random;
      options_.set({"seed", fmt::format("{}", random()), "drawn at random"}, SourceLevel::flag);
    }
    progress_ = std::make_unique<Progress>();
    log_ = std::make_unique<JsonLog>(o.json_log);
    log_->event({{"event", "start"}, {"version", kVersion}, {"options", options_.to_json()}});
    if (!note.empty()) progress_->note(note);
    progress_->stage(fmt::format("longtake {}, model {}, seed {}, policy {}", kVersion, model_.recipe.name, *o.seed, o.policy));
    generate_video();
  }

 private:
  const GenerateOptions& options() const { return options_.values(); }

  // Models with an embedding of the frame rate know 16 fps and everything else (24).
  int fps_index() const { return options().fps == 16 ? 0 : 1; }

  StepModel step_model(std::function<at::Tensor(double)> embedding, int64_t dim) const {
    return {std::move(embedding), model_.recipe.architecture.distance == "linear" ? DistanceRule::linear : DistanceRule::polynomial, dim};
  }

  // The plan needs no weights: sizes come from the files' headers where there are files, else from the recipe.
  void dry_run(const std::string& note) const {
    const Architecture& a = model_.recipe.architecture;
    PlanInput input;
    input.settings = settings_;
    input.policy = policy_;
    input.value_bytes = options().dtype == "fp32" ? 4 : 2;
    input.text_length = a.text_len > 0 ? a.text_len : 512;
    input.transformer_parameters = static_cast<double>(a.transformer_parameters);
    input.text_parameters = static_cast<double>(a.text_parameters);
    input.vae_parameters = static_cast<double>(a.vae_parameters);
    input.vae = make_vae_sizes(96, {1, 2, 4, 4}, 2, {false, true, true});
    if (model_.files) {
      const ModelFiles& files = *model_.files;
      input.transformer = transformer_config(files);
      input.vae = vae_sizes(files);
      input.transformer_parameters = parameters_in(files.transformer);
      input.text_parameters = parameters_in(files.text_encoder);
      input.vae_parameters = parameters_in(files.vae);
      const auto steps = step_model(load_step_embedding(files, fps_index()), input.transformer.dim);
      input.preview = make_policy(policy_, flow_timesteps(options().steps, options().shift), steps, settings_.denoise.branches())
                          ->preview(options().steps);
    } else {
      if (a.dim == 0) model_.require_files();
      input.transformer = {.dim = a.dim, .ffn_dim = a.ffn, .layers = a.layers, .heads = a.heads, .text_dim = a.text_dim, .freq_dim = a.freq_dim};
    }
    if (!note.empty()) fmt::print("{}\n", note);
    fmt::print("model: {} ({}), policy {}\n{}", model_.recipe.name, model_.files ? "files found" : "no files; sizes from the recipe",
               options().policy, plan_report(input));
  }

  void generate_video() {
    const GenerateOptions& o = options();
    const ModelFiles& files = model_.require_files();
    VideoSink sink(o, options_.to_json());  // fails now rather than after hours
    if (o.threads > 0) at::set_num_threads(o.threads);
    const c10::InferenceMode inference;
    const ModelTarget target{open_device(o.device), o.dtype == "fp32" ? at::kFloat : at::kBFloat16};

    progress_->stage("encoding the prompt");
    std::vector<std::string> texts{o.prompt};
    if (settings_.denoise.branches() == 2) texts.push_back(o.negative);
    const int64_t text_len = model_.recipe.architecture.text_len > 0 ? model_.recipe.architecture.text_len : 512;
    const auto encoded = encode_texts(files, texts, text_len, target);
    if (encoded[0].truncated)
      progress_->note(fmt::format("the prompt is longer than the {} tokens this model reads: the rest has no effect", text_len));

    progress_->stage("loading the model");
    const skyreels::Transformer transformer = load_transformer(files, target);
    const WanVae vae = load_vae(files, target.device);
    std::vector<skyreels::TextKv> kv;
    for (const EncodedText& text : encoded) kv.push_back(skyreels::prepare_text(transformer, text.context));
    std::vector<const skyreels::TextKv*> texts_of_branch;
    for (const auto& text : kv) texts_of_branch.push_back(&text);
    const BackboneFactory make = [&](const WindowGeometry& g) {
      return std::make_unique<skyreels::SkyReelsBackbone>(transformer, texts_of_branch, g, fps_index());
    };
    const auto probe = make(window_geometry(settings_, settings_.plan.windows.front()));
    const auto policy = make_policy(
        policy_, flow_timesteps(o.steps, o.shift),
        step_model([&](double t) { return probe->step_embedding(t); }, transformer.config().dim), settings_.denoise.branches());
    std::unique_ptr<NoiseSource> noise;
    if (o.parity == "none")
      noise = std::make_unique<PhiloxNoise>(*o.seed);
    else
      noise = std::make_unique<TorchNoise>(*o.seed, *o.seed);

    const RunStats stats = generate(settings_, make, vae, *policy, *noise, target.device, hooks(sink));
    progress_->stage("writing the file");
    sink.finish();
    finish(stats);
  }

  GenerateHooks hooks(VideoSink& sink) {
    int rows = 0;
    for (const WindowSpan& window : settings_.plan.windows) rows += window_schedule(settings_, window).rows();
    progress_->stage(fmt::format("denoising {} windows in {} rows", settings_.plan.windows.size(), rows));
    progress_->rows_begin(rows);
    GenerateHooks hooks;
    hooks.on_window_start = [this](const WindowSpan& window, const Schedule& schedule) {
      window_ = window.index;
      steps_ = schedule.steps();
      log_->event({{"event", "window"}, {"window", window.index}, {"rows", schedule.rows()}, {"latent_frames", window.latent_frames}});
    };
    hooks.denoise.on_decision = [this](const DecisionRecord& d) {
      row_tokens_ += d.tokens;
      row_recomputed_ += d.recomputed;
      first_chunk_ = row_tokens_ == d.tokens ? d.chunk : std::min(first_chunk_, d.chunk);
      last_chunk_ = row_tokens_ == d.tokens ? d.chunk : std::max(last_chunk_, d.chunk);
      if (d.chunk == first_chunk_) step_ = d.step;
      all_tokens_ += d.tokens;
      all_recomputed_ += d.recomputed;
    };
    hooks.denoise.on_row = [this](int row, int) {
      const double reused = all_tokens_ == 0 ? 0 : 1 - static_cast<double>(all_recomputed_) / static_cast<double>(all_tokens_);
      progress_->row_done(fmt::format("window {}/{}  chunks {}-{}  step {}/{}", window_ + 1, settings_.plan.windows.size(),
                                      first_chunk_ + 1, last_chunk_ + 1, std::min(step_ + 1, steps_), steps_),
                          reused);
      log_->event({{"event", "row"}, {"window", window_}, {"row", row}, {"tokens", row_tokens_}, {"recomputed", row_recomputed_},
                   {"seconds", progress_->seconds()}});
      row_tokens_ = row_recomputed_ = 0;
    };
    hooks.on_latents = [this, &sink](const WindowSpan& window, const at::Tensor& latents) {
      progress_->stage(fmt::format("decoding window {}/{}", window.index + 1, settings_.plan.windows.size()));
      sink.latents(window, latents);
    };
    hooks.on_frames = [&sink](const at::Tensor& frames) { sink.frames(frames); };
    return hooks;
  }

  void finish(const RunStats& stats) {
    const WorkCount total = stats.total();
    fmt::print("{}", stats_table(stats));
    fmt::print("total {:.1f} s, peak memory {}\n", progress_->seconds(), format_bytes(static_cast<double>(peak_resident_bytes())));
    fmt::print("{}\n", options().out);
    log_->event({{"event", "done"}, {"seconds", progress_->seconds()}, {"denoise_seconds", stats.denoise_seconds},
                 {"decode_seconds", stats.decode_seconds}, {"recomputed", total.recomputed}, {"reused", total.reused},
                 {"flops", total.flops}, {"flops_saved", total.flops_saved}, {"peak_bytes", peak_resident_bytes()}});
  }

  OptionSet options_;
  PolicyChoice policy_;
  GenerateSettings settings_;
  ResolvedModel model_;
  std::unique_ptr<Progress> progress_;
  std::unique_ptr<JsonLog> log_;
  int window_ = 0, steps_ = 0, step_ = 0, first_chunk_ = 0, last_chunk_ = 0;
  int64_t row_tokens_ = 0, row_recomputed_ = 0, all_tokens_ = 0, all_recomputed_ = 0;
};

}  // namespace

void add_generate(CLI::App& program) {
  auto* verb = program.add_subcommand("generate", "Generate a video from a prompt");
  verb->footer("Example: longtake generate -p \"a red circle moves from left to right over grass\" -o out.mp4");
  const auto given = add_option_flags(*verb);
  auto print = std::make_shared<bool>(false);
  verb->add_flag("--print-config", *print, "Print all options as YAML and stop");
  verb->callback([given, print] {
    GenerateRun run(*given);
    *print ? run.print_config() : run.run();
  });
}

}  // namespace longtake
