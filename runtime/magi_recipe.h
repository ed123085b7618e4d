// MAGI-1 models before any weights are opened: recipes made from the reference's configuration files, sizes, and the configuration
// of a run.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "models/magi/config.h"
#include "models/magi/text_rows.h"
#include "models/magi_vae/config.h"
#include "runtime/magi_schedule.h"
#include "runtime/options.h"
#include "runtime/recipe.h"

namespace longtake {

// Where `folder` holds the configuration of a MAGI-1 model (config.json with the reference's sections), its recipe: sizes and
// settings from there; parts in inference_weight[.fp8][.distill]/, vae/, t5/t5-v1_1-xxl/ and special_tokens.npz. Error (bad_file)
// for a configuration that is not sound, or asks for what longtake does not run.
std::optional<Recipe> magi_recipe_of_folder(const std::filesystem::path& folder);
Recipe magi_recipe(const magi::Config& config, const std::string& name, const std::string& what);

// Errors: bad_file where the recipe does not give the sizes, or they contradict each other.
magi::ModelConfig magi_sizes(const Recipe& recipe);
// Whether the VAE is Wan 2.1's: the recipe gives its stages.
bool has_wan_vae(const Recipe& recipe);
// RunConfig::missing_frames.
int magi_missing_frames(const Recipe& recipe);
// Whether there are special rows to put in front of captions.
bool has_special_rows(const Recipe& recipe);
MagiVaeConfig magi_vae_config(const Recipe& recipe);

// What a run of these options is, in the reference's terms; a duration becomes whole chunks, and `note` says what was rounded. Where a
// video is gone on from, options.context must be known. The reference counts a picture's own frames besides num_frames and so makes
// a chunk more; here the video is as long as asked for.
// Errors: usage, in the options' words; bad_file as magi_sizes.
magi::Config magi_config(const Recipe& recipe, const GenerateOptions& options, std::string* note = nullptr);

// Throws (usage) where the options say how many frames of a video there are to go on from, and these are no whole latent frames.
void check_magi_context(const Recipe& recipe, const GenerateOptions& options);
// Chunks and given frames of that run.
magi::VideoSize magi_video_size(const Recipe& recipe, const GenerateOptions& options, const magi::Config& config);

// "high_quality,duration" or "none".
magi::TextSettings magi_text_settings(const std::string& special_tokens);

}  // namespace longtake
