// The table of all options.
#include <fmt/ranges.h>

#include "runtime/options.h"

namespace longtake {
namespace {

using G = GenerateOptions;

OptionInfo text(std::string key, std::string flags, OptionField field, std::string value_name, std::string help) {
  OptionInfo info;
  info.key = std::move(key);
  info.flags = std::move(flags);
  info.field = field;
  info.value_name = std::move(value_name);
  info.help = std::move(help);
  return info;
}

OptionInfo choice(std::string key, std::string flags, OptionField field, std::vector<std::string> choices,
                  std::string help) {
  OptionInfo info = text(std::move(key), std::move(flags), field, "NAME", std::move(help));
  info.kind = OptionKind::choice;
  info.choices = std::move(choices);
  return info;
}

OptionInfo ranged(OptionKind kind, std::string key, std::string flags, OptionField field, std::string value_name,
                  double min, double max, std::string help) {
  OptionInfo info = text(std::move(key), std::move(flags), field, std::move(value_name), std::move(help));
  info.kind = kind;
  info.min = min;
  info.max = max;
  return info;
}

OptionInfo integer(std::string key, std::string flags, int G::*field, std::string value_name, double min, double max,
                   std::string help) {
  return ranged(OptionKind::integer, std::move(key), std::move(flags), field, std::move(value_name), min, max,
                std::move(help));
}

OptionInfo number(std::string key, std::string flags, double G::*field, double min, double max, std::string help) {
  return ranged(OptionKind::number, std::move(key), std::move(flags), field, "NUMBER", min, max, std::move(help));
}

OptionInfo common(OptionInfo info) {
  info.common = true;
  return info;
}

OptionInfo toggle(std::string key, std::string flags, bool G::*field, std::string help) {
  OptionInfo info = text(std::move(key), std::move(flags), field, "", std::move(help));
  info.kind = OptionKind::toggle;
  return info;
}

OptionInfo only_in(std::string verb, OptionInfo info) {
  info.verb = std::move(verb);
  return info;
}

OptionInfo free_on_resume(OptionInfo info) {
  info.free_on_resume = true;
  return info;
}

OptionInfo recipe(OptionInfo info) {
  info.from_recipe = true;
  return info;
}

std::vector<OptionInfo> make_schema() {
  std::vector<OptionInfo> s;
  auto add = [&](OptionInfo info) { s.push_back(std::move(info)); };

  add(common(text("model", "-m,--model", &G::model, "NAME|FOLDER",
                  "Model recipe, or a folder with a model's files; `longtake models` lists the recipes")));
  add(common(text("prompt", "-p,--prompt", &G::prompt, "TEXT", "What the video shows")));
  OptionInfo prompts = text("prompts", "--prompts", &G::prompts, "FILE",
                            "Prompts over time instead: a file of lines such as 0-5: a boat at sea, in seconds, the last range open (5-: ...) or up to the "
                            "end; in YAML the lines themselves");
  prompts.kind = OptionKind::timeline;
  add(common(prompts));
  add(common(recipe(
      text("negative", "--negative", &G::negative, "TEXT", "What guidance steers away from; \"\" for nothing"))));
  add(common(free_on_resume(text("out", "-o,--out", &G::out, "FILE", "The mp4 file to write"))));
  OptionInfo seed = text("seed", "--seed", &G::seed, "NUMBER|random",
                         "Start of the noise; the same seed gives the same noise on every device");
  seed.kind = OptionKind::seed;
  add(common(seed));
  add(common(recipe(text("policy", "--policy", &G::policy, "NAME[:PRESET][,KEY=VALUE...]",
                         "What to recompute, reuse or predict: none, causal, teacache, flowcache, motioncache, predict or driftcache, with a "
                         "preset (own, slow, fast) or numbers of your own such as motioncache:slow,threshold=0.2,warmup=4; --help-all "
                         "lists every key"))));
  add(text("plan", "--plan", &G::plan, "FILE", "Replay recorded or hand-written decisions instead of a policy (docs/plans.md)"));
  add(choice("parity", "--parity", &G::parity, {"none", "skyreels-ref", "motioncache-ref"},
             "Repeat a reference program with its quirks, for comparisons"));

  OptionInfo size = ranged(OptionKind::size, "video.size", "--size", &G::size, "HEIGHTxWIDTH", 16, 8192,
                           "Picture size in pixels, both multiples of 16");
  add(common(recipe(size)));
  add(common(recipe(integer("video.frames", "--frames", &G::frames, "FRAMES", 1, 1e6, "Length of the video, 4k + 1; MAGI-1: whole chunks (24k)"))));
  add(common(ranged(OptionKind::seconds, "video.duration", "--duration", &G::duration, "SECONDS", 0.001, 1e6,
                    "Length in seconds instead of frames, rounded to the nearest length that fits")));
  add(common(recipe(integer("video.fps", "--fps", &G::fps, "RATE", 1, 240, "Frames a second"))));
  add(free_on_resume(integer("video.crf", "--crf", &G::crf, "NUMBER", 0, 51,
                             "H.264 quality: lower is better and larger, 0 is lossless")));
  add(free_on_resume(choice("video.preset", "--preset", &G::preset,
                            {"ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"},
                            "H.264 effort: slower gives smaller files")));

  // The file's content is compared when a run is taken up again, not its name.
  add(common(free_on_resume(text("conditioning.image", "--image", &G::image, "FILE",
                                 "A picture that the video begins with (PNG, JPEG, ...), fitted to --size"))));
  add(common(free_on_resume(text("conditioning.end_image", "--end-image", &G::end_image, "FILE",
                                 "A picture that the video leads to: the frame behind its last one"))));
  add(common(only_in("extend", free_on_resume(text("conditioning.video", "--video", &G::video, "FILE",
                                                   "A video to go on from, fitted to --size and --fps")))));
  add(common(only_in("extend", ranged(OptionKind::seconds, "conditioning.add", "--add", &G::add, "SECONDS", 0, 1e6,
                                      "How much to add, rounded to the nearest length that fits"))));
  add(only_in("extend", integer("conditioning.context", "--context", &G::context, "FRAMES", 0, 1e6,
                                "Last frames of the video that the model sees, 4k + 1; 0 for as many as --overlap and the video allow")));
  add(common(only_in("extend", toggle("conditioning.only_new", "--only-new", &G::only_new, "Write the new frames alone"))));

  add(common(recipe(integer("sampling.steps", "--steps", &G::steps, "STEPS", 1, 1000, "Denoising steps of a chunk"))));
  add(common(recipe(number("sampling.guidance", "--guidance", &G::guidance, 1, 100,
                           "How strongly the prompt is followed; 1 is off and halves the work"))));
  add(recipe(number("sampling.shift", "--shift", &G::shift, 0.01, 100,
                    "Where the steps lie: higher spends more of them on noisy stages")));
  add(recipe(integer("sampling.window", "--window", &G::window, "FRAMES", 1, 1e6,
                     "Frames that the model sees at once, 4k + 1; longer videos slide this window")));
  add(recipe(integer("sampling.overlap", "--overlap", &G::overlap, "FRAMES", 1, 1e6,
                     "Frames that each further window repeats as its start, 4k + 1")));
  add(recipe(integer("sampling.chunk", "--chunk", &G::chunk, "LATENTS", 1, 1000,
                     "Latent frames (4 frames each) that are denoised together")));
  add(recipe(integer("sampling.ar_step", "--ar-step", &G::ar_step, "STEPS", 0, 1000,
                     "Steps by which a chunk trails the one before it; 0 denoises all together")));
  add(recipe(integer(
      "sampling.addnoise", "--addnoise", &G::addnoise, "TIMESTEP", 0, 999,
      "Noise that the model sees on the repeated frames; keeps long videos from drifting, at most 60 is wise")));
  add(recipe(choice("sampling.history", "--history", &G::history, {"reencode", "carry"},
                    "What a window takes over: its last frames encoded again, or its last latents as they are")));

  add(text("sampling.kv", "--kv", &G::kv, "NAME[:KEY=VALUE...]",
           "What is kept of the keys and values of finished chunks: full, stream:N (the last N chunks), r1kv:budget=CHUNKS or merge:d=DISTANCE; "
           "--help-all lists every key"));

  // MAGI-1's own; other families refuse them (families.h).
  add(recipe(integer("sampling.in_flight", "--in-flight", &G::in_flight, "CHUNKS", 1, 1000,
                     "MAGI-1: chunks that are denoised together, each an equal part of the steps behind the one before it")));
  add(recipe(text("sampling.key_chunks", "--key-chunks", &G::key_chunks, "LIST",
                  "MAGI-1: how many chunks a chunk sees, itself included, in each equal part of its steps, such as 5,4,3,2; all for no limit")));
  add(recipe(integer("sampling.clean_key_chunks", "--clean-key-chunks", &G::clean_key_chunks, "CHUNKS", 0, 1e6,
                     "MAGI-1: the same for a finished chunk, which later ones read; 0 for as many as in the last part")));
  add(recipe(number("sampling.prev_guidance", "--prev-guidance", &G::prev_guidance, 1, 100,
                    "MAGI-1 base models: how strongly the chunks before are followed; 1 is off")));
  add(recipe(text("sampling.special_tokens", "--special-tokens", &G::special_tokens, "LIST",
                  "MAGI-1: special rows in front of the caption: high_quality, duration, static, dynamic, borders, 3d_model, 2d_anime, and "
                  "negative for unwanted things in front of the empty caption; or none")));

  add(common(text("run.device", "--device", &G::device, "auto|cpu|cuda[:N]", "Where to compute")));
  add(recipe(choice("run.dtype", "--dtype", &G::dtype, {"fp32", "bf16"}, "Precision of the weights")));
  add(recipe(choice("run.vae_dtype", "--vae-dtype", &G::vae_dtype, {"auto", "fp32", "bf16"},
                    "Precision of the VAE, which decodes frames and encodes given or repeated ones; auto: fp32 for Wan's VAE, that of --dtype for "
                    "MAGI-1's own")));
  add(choice("run.precision", "--precision", &G::precision, {"auto", "bf16", "fp8"},
             "Precision of the transformer's large matrix products: that of --dtype (auto, or bf16 to insist on it), or 8-bit floats on GPUs "
             "of compute capability 8.9 and newer, with attention in 8-bit floats too from 9.0"));
  add(integer("run.decode_latents", "--decode-latents", &G::decode_latents, "LATENTS", 0, 1000,
              "Latent frames that are decoded at once: fewer take less memory; 0 is 5 (MAGI-1 with Wan's VAE: a chunk's), or fewer where "
              "memory is short"));
  add(free_on_resume(toggle("run.offload", "--offload", &G::offload,
                            "Keep the transformer's blocks in host memory and bring each to the GPU just before it computes: slower, the same "
                            "video")));
  add(free_on_resume(ranged(OptionKind::bytes, "run.memory_budget", "--memory-budget", &G::memory_budget, "SIZE", 0, 1e15,
                            "Memory that the run may take on its device, 0 for what is free: a run that is predicted to need more is refused "
                            "before anything is loaded (give more than there is, and it runs all the same)")));
  add(integer("run.threads", "--threads", &G::threads, "COUNT", 0, 1024, "CPU threads; 0 takes every core"));
  add(free_on_resume(text("run.json_log", "--json-log", &G::json_log, "FILE", "Write every event as a line of JSON")));
  add(free_on_resume(
      text("run.record_plan", "--record-plan", &G::record_plan, "FILE", "Write the run's decisions as a plan that --plan replays")));
  add(common(free_on_resume(
      toggle("run.dry_run", "--dry-run", &G::dry_run, "Print the plan and its cost, generate nothing"))));
  add(common(free_on_resume(toggle("run.resume", "--resume", &G::resume,
                                   "Go on with the interrupted run in OUT.run; other options may be left out"))));
  add(free_on_resume(toggle("run.overwrite_run", "--overwrite-run", &G::overwrite_run,
                            "Throw away an interrupted run in OUT.run and begin again")));
  add(free_on_resume(
      toggle("run.keep_run", "--keep-run", &G::keep_run, "Keep OUT.run with all latents when the video is done")));
  add(free_on_resume(choice("run.preview", "--preview", &G::preview, {"none", "latent"},
                            "Write a small picture of each finished chunk to OUT.run, straight from its latents")));
  add(free_on_resume(choice("run.text_cache", "--text-cache", &G::text_cache, {"on", "off"},
                            "Keep encoded prompts in the user's cache folder, so that the text encoder is loaded for new ones alone")));
  OptionInfo budget = ranged(OptionKind::bytes, "run.checkpoint_budget", "--checkpoint-budget", &G::checkpoint_budget, "SIZE", 0, 1e15,
                             "Largest state that is written within a window, so that a resume need not start the window "
                             "again, 0 for never; K/V makes up most of it");
  add(free_on_resume(budget));
  return s;
}

}  // namespace

const std::vector<OptionInfo>& option_schema() {
  static const std::vector<OptionInfo> schema = make_schema();
  return schema;
}

const OptionInfo* find_option(std::string_view key) {
  for (const OptionInfo& info : option_schema())
    if (info.key == key) return &info;
  return nullptr;
}

std::string OptionInfo::flag() const { return flags.substr(flags.find("--")); }

std::string OptionInfo::section() const {
  const size_t dot = key.find('.');
  return dot == std::string::npos ? std::string() : key.substr(0, dot);
}

std::string OptionInfo::name() const { return key.substr(key.find('.') + 1); }

std::string option_notes(const OptionInfo& info) {
  std::string notes;
  auto add = [&](const std::string& note) { notes += (notes.empty() ? "" : "; ") + note; };
  switch (info.kind) {
    case OptionKind::integer:
    case OptionKind::number:
      add(fmt::format("{} to {}",
                      static_cast<int64_t>(info.min) == info.min ? fmt::format("{}", static_cast<int64_t>(info.min))
                                                                 : fmt::format("{}", info.min),
                      static_cast<int64_t>(info.max)));
      break;
    case OptionKind::bytes:
      add("such as 500MB or 2GB");
      break;
    case OptionKind::choice:
      add(fmt::format("{}", fmt::join(info.choices, ", ")));
      break;
    default:
      break;
  }
  const std::string value = option_text(GenerateOptions(), info);
  if (info.from_recipe)
    add("default: from the model's recipe");
  else if (info.kind != OptionKind::toggle && info.kind != OptionKind::seconds && !value.empty())
    add("default: " + value);
  return notes;
}

}  // namespace longtake
