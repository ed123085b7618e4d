#include "runtime/magi_recipe.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/suggest.h"
#include "base/utf8.h"
#include "models/magi_vae/magi_vae.h"
#include "runtime/families.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

// What all published models have in common.
constexpr double kEps = 1e-6, kCleanTime = 0.9999, kNearlyClean = 0.3;
constexpr int64_t kConditionShare = 4;  // of dim
constexpr const char* kShortcut = "8,16,16";
constexpr int kTemporalStride = 4;

// "5,4,3,2"; "all" is the empty list.
std::vector<int> parse_key_chunks(const std::string& text) {
  std::vector<int> out;
  if (text == "all") return out;
  for (std::string_view rest = text;;) {
    const std::string_view part = rest.substr(0, rest.find(','));
    int value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc() || end != part.data() + part.size() || value < 1 || out.size() == 1000)
      fail_usage("sampling.key_chunks must be numbers of chunks such as 5,4,3,2, or all, found '{}'", printable(text));
    out.push_back(value);
    if (part.size() == rest.size()) return out;
    rest.remove_prefix(part.size() + 1);
  }
}

std::string key_chunks_text(const std::vector<int>& chunks) {
  return chunks.empty() ? "all" : fmt::format("{}", fmt::join(chunks, ","));
}

// Frames that are given, in fours.
int given_frames(const GenerateOptions& o, int missing) {
  return !o.image.empty() ? kTemporalStride : o.video.empty() ? 0 : o.context + missing;
}

// The frames that are to be generated behind the given ones, by which the reference counts (num_frames): they end a chunk. A picture is
// the first of the frames asked for; of a video's end only what follows it counts. All is counted in fours: `missing` frames more than a
// video has whose first latent frame is one frame alone.
int frames_of_run(const GenerateOptions& o, int missing, std::string* note) {
  const int chunk = o.chunk * kTemporalStride;
  const int given = given_frames(o, missing);
  const int unshown = o.video.empty() ? missing : given;
  if (note != nullptr) note->clear();
  if (o.duration > 0 || o.add > 0) {
    const double seconds = o.duration > 0 ? o.duration : o.add, wanted = seconds * o.fps;
    if (wanted > 1e6) fail_usage("{} s at {} fps are {:.0f} frames, and a video has at most 1000000", seconds, o.fps, wanted);
    const int chunks = std::max(unshown / chunk + 1, static_cast<int>(std::lround((wanted + unshown) / chunk))), frames = chunks * chunk - unshown;
    if (note != nullptr && frames != wanted)
      *note = fmt::format("{} s are rounded to {} frames ({:.3f} s), which end a chunk of {}", seconds, frames, static_cast<double>(frames) / o.fps,
                          chunk);
    return chunks * chunk - given;
  }
  const int whole = o.frames + missing;
  if (whole % chunk != 0)
    fail_usage("video.frames must be {}a multiple of {}, the frames of a chunk, found {}; use {}{}",
               missing == 0 ? "" : fmt::format("{} less than ", missing), chunk, o.frames,
               whole < chunk ? "" : fmt::format("{} or ", whole / chunk * chunk - missing), (whole / chunk + 1) * chunk - missing);
  return whole - given;
}

// The time up to which the configuration guides, its scales being constant there and those of no guidance behind.
double guided_until(const magi::RunConfig& run, const std::string& what) {
  size_t i = 0;
  const auto same = [&](size_t j) { return run.prev_chunk_scales[j] == run.prev_chunk_scales[0] && run.text_scales[j] == run.text_scales[0]; };
  while (i < run.guidance_times.size() && same(i)) ++i;
  for (size_t j = i; j < run.guidance_times.size(); ++j)
    if (run.prev_chunk_scales[j] != 1 || run.text_scales[j] != 0)
      fail_file("{}: runtime_config: longtake runs guidance of constant scales up to some time and none after it; 'prev_chunk_scales' and "
                "'text_scales' have others at {}", what, run.guidance_times[j]);
  return i < run.guidance_times.size() ? run.guidance_times[i] : 1;
}

void check_published(const magi::Config& c, const std::string& what) {
  const auto check = [&](bool good, const char* field, const auto& wanted) {
    if (!good) fail_file("{}: longtake runs MAGI-1 models whose '{}' is {}", what, field, wanted);
  };
  check(c.model.eps == kEps, "layernorm_epsilon", kEps);
  check(c.model.norm_plus_one, "apply_layernorm_1p", "true");
  check(c.model.condition_dim * kConditionShare == c.model.dim, "cond_hidden_ratio", 1.0 / kConditionShare);
  check(c.run.clean_t == kCleanTime, "clean_t", kCleanTime);
  check(c.run.scale_factor == kMagiScaleFactor, "scale_factor", kMagiScaleFactor);
  check(c.run.temporal_downsample == kTemporalStride, "temporal_downsample_factor", kTemporalStride);
  check(c.engine.nearly_clean_threshold == kNearlyClean, "distill_nearly_clean_chunk_threshold", kNearlyClean);
  check(c.engine.shortcut_mode == kShortcut, "shortcut_mode", kShortcut);
}

}  // namespace

std::optional<Recipe> magi_recipe_of_folder(const fs::path& folder) {
  const fs::path file = folder / "config.json";
  std::ifstream stream(file);
  const auto json = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("model_config")) return std::nullopt;
  return magi_recipe(magi::Config::read(file), folder.filename().string(), file.string());
}

Recipe magi_recipe(const magi::Config& c, const std::string& name, const std::string& what) {
  check_published(c, what);
  Recipe r;
  r.name = name;
  r.description = fmt::format("MAGI-1, {} x {}, {}", c.run.height, c.run.width, c.engine.distilled ? "distilled" : "base model");
  const std::string t5 = "t5/t5-v1_1-xxl";
  r.layouts = {{"own configuration", fmt::format("inference_weight{}{}", c.engine.fp8 ? ".fp8" : "", c.engine.distilled ? ".distill" : ""),
                "vae", t5, t5 + "/spiece.model", "special_tokens.npz"}};
  Architecture& a = r.architecture;
  a.family = kMagiFamily;
  a.dim = c.model.dim, a.ffn = c.model.ffn_dim, a.heads = c.model.heads, a.kv_heads = c.model.kv_heads, a.layers = c.model.layers;
  a.text_dim = c.model.caption_dim, a.text_len = c.model.caption_length, a.latent_channels = c.model.latent_channels();
  a.gated_mlp = c.model.gated_mlp, a.doubled_latents = c.model.half_channel_vae, a.latent_scale = c.model.x_rescale_factor;
  a.distilled = c.engine.distilled, a.fp8 = c.engine.fp8;
  const auto add = [&](const std::string& key, const auto& value) { r.defaults.push_back({key, fmt::format("{}", value), what}); };
  const int chunk = c.run.chunk_frames * kTemporalStride;
  add("policy", "none");
  add("video.size", fmt::format("{}x{}", c.run.height, c.run.width));
  add("video.frames", (c.run.frames + chunk - 1) / chunk * chunk);
  add("video.fps", c.run.fps);
  add("sampling.steps", c.run.steps);
  add("sampling.chunk", c.run.chunk_frames);
  add("sampling.in_flight", c.run.window);
  add("sampling.key_chunks", key_chunks_text(c.run.key_chunks));
  add("sampling.clean_key_chunks", std::max(c.run.clean_key_chunks, 0));
  if (!c.engine.distilled) {
    a.guided_until = guided_until(c.run, what);
    add("sampling.guidance", c.run.text_scales[0]);
    add("sampling.prev_guidance", c.run.prev_chunk_scales[0]);
  }
  return r;
}

magi::ModelConfig magi_sizes(const Recipe& recipe) {
  const Architecture& a = recipe.architecture;
  const auto refuse = [&](const std::string& what) {
    fail_file("the recipe of {} {}; name one that does (longtake models lists them)", recipe.name, what);
  };
  for (const int64_t size : {a.dim, a.ffn, a.heads, a.kv_heads, a.layers, a.text_dim, a.latent_channels})
    if (size == 0) refuse("does not give all of the transformer's sizes (dim, ffn, heads, kv_heads, layers, text_dim, latent_channels)");
  if (a.text_len < 2) refuse("does not give text_len, 2 or more");
  if (a.dim % a.heads != 0 || a.heads % a.kv_heads != 0 || a.dim % 8 != 0 || a.dim / a.heads % 8 != 0)
    refuse(fmt::format("does not give heads that {} divides into, {} K/V heads that divide these, and widths of multiples of 8", a.dim, a.kv_heads));
  magi::ModelConfig c;
  c.layers = a.layers, c.dim = a.dim, c.ffn_dim = a.ffn, c.heads = a.heads, c.kv_heads = a.kv_heads, c.head_width = a.dim / a.heads;
  c.eps = kEps, c.norm_plus_one = true;
  c.x_rescale_factor = a.latent_scale, c.half_channel_vae = a.doubled_latents;
  c.in_channels = c.out_channels = a.latent_channels * (a.doubled_latents ? 2 : 1);
  c.condition_dim = a.dim / kConditionShare, c.caption_dim = a.text_dim, c.caption_length = a.text_len;
  c.gated_mlp = a.gated_mlp;
  return c;
}

bool has_wan_vae(const Recipe& recipe) { return !recipe.architecture.vae_stages.empty(); }

int magi_missing_frames(const Recipe& recipe) { return has_wan_vae(recipe) ? kTemporalStride - 1 : 0; }

bool has_special_rows(const Recipe& recipe) {
  return std::any_of(recipe.layouts.begin(), recipe.layouts.end(), [](const FileLayout& layout) { return !layout.special_tokens.empty(); });
}

MagiVaeConfig magi_vae_config(const Recipe& recipe) {
  const Architecture& a = recipe.architecture;
  MagiVaeConfig c;
  if (a.vae_dim == 0 || a.vae_depth == 0 || a.vae_heads == 0 || a.latent_channels == 0 || a.vae_dim % a.vae_heads != 0 ||
      a.vae_dim % c.patch_pixels() != 0)
    fail_file("the recipe of {} does not give the VAE's sizes: vae_depth, vae_heads, and vae_dim, a multiple of these and of {}; name one that "
              "does (longtake models lists them)", recipe.name, c.patch_pixels());
  c.dim = a.vae_dim, c.depth = a.vae_depth, c.heads = a.vae_heads, c.ffn = 4 * a.vae_dim, c.latent_channels = a.latent_channels;
  return c;
}

magi::Config magi_config(const Recipe& recipe, const GenerateOptions& o, std::string* note) {
  const Architecture& a = recipe.architecture;
  magi::Config c;
  c.model = magi_sizes(recipe);
  c.engine = {a.distilled, a.fp8, kNearlyClean, kShortcut};
  magi::RunConfig& r = c.run;
  r.branches = a.distilled || a.fp8 ? 1 : 3;
  r.guidance_times = {0}, r.prev_chunk_scales = {o.prev_guidance}, r.text_scales = {o.guidance};
  if (a.guided_until < 1) r.guidance_times.push_back(a.guided_until), r.prev_chunk_scales.push_back(1), r.text_scales.push_back(0);
  if (!a.distilled && a.guided_until == 0)
    fail_file("the recipe of {} does not say up to which time there is guidance (guided_until)", recipe.name);
  r.key_chunks = parse_key_chunks(o.key_chunks);
  r.clean_key_chunks = o.clean_key_chunks == 0 ? -1 : o.clean_key_chunks;
  r.clean_t = kCleanTime;
  r.seed = static_cast<int64_t>(o.seed.value_or(0));
  r.height = o.size.height, r.width = o.size.width, r.fps = o.fps;
  r.steps = o.steps, r.window = o.in_flight, r.chunk_frames = o.chunk;
  r.scale_factor = kMagiScaleFactor, r.temporal_downsample = kTemporalStride;
  r.missing_frames = magi_missing_frames(recipe);
  r.frames = frames_of_run(o, r.missing_frames, note);
  const int parts = std::max<int>(1, static_cast<int>(r.key_chunks.size()));
  if (r.steps % r.window != 0 || r.steps % parts != 0)
    fail_usage("sampling.steps must be a multiple of sampling.in_flight ({}) and of the {} values of sampling.key_chunks, found {}", r.window,
               parts, r.steps);
  return c;
}

void check_magi_context(const Recipe& recipe, const GenerateOptions& o) {
  const int missing = magi_missing_frames(recipe), rest = missing == 0 ? 0 : kTemporalStride - missing;
  if (const int behind = o.context - rest; o.context != 0 && (behind < 0 || behind % kTemporalStride != 0))
    fail_usage("conditioning.context must be {}a multiple of {} frames for this model, found {}; use {}",
               rest == 0 ? "" : fmt::format("{} more than ", rest), kTemporalStride, o.context,
               (std::max(behind, 0) / kTemporalStride + 1) * kTemporalStride + rest);
}

magi::VideoSize magi_video_size(const Recipe& recipe, const GenerateOptions& o, const magi::Config& config) {
  return magi::VideoSize::of(config.run, given_frames(o, magi_missing_frames(recipe)) / kTemporalStride);
}

magi::TextSettings magi_text_settings(const std::string& text) {
  magi::TextSettings s;
  s.high_quality = s.duration = false;
  if (text == "none") return s;
  const std::map<std::string, bool magi::TextSettings::*> names = {{"static", &magi::TextSettings::static_first_frames},
                                                                   {"dynamic", &magi::TextSettings::dynamic_first_frames},
                                                                   {"borders", &magi::TextSettings::borders},
                                                                   {"high_quality", &magi::TextSettings::high_quality},
                                                                   {"3d_model", &magi::TextSettings::three_d_model},
                                                                   {"2d_anime", &magi::TextSettings::two_d_anime},
                                                                   {"duration", &magi::TextSettings::duration},
                                                                   {"negative", &magi::TextSettings::negative}};
  std::vector<std::string> known;
  for (const auto& [name, member] : names) known.push_back(name);
  for (std::string_view rest = text;;) {
    const std::string part(rest.substr(0, rest.find(',')));
    const auto found = names.find(part);
    if (found == names.end())
      fail_usage("sampling.special_tokens knows no '{}'{}; known are {}, or none", printable(part), did_you_mean(part, known),
                 fmt::join(known, ", "));
    if (s.*found->second) fail_usage("sampling.special_tokens has {} twice", part);
    s.*found->second = true;
    if (part.size() == rest.size()) return s;
    rest.remove_prefix(part.size() + 1);
  }
}

}  // namespace longtake
