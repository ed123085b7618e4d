// Model recipes: what is known about a model before its weights are opened, and where its files are.
//
// A recipe is configs/NAME.yaml:
//   description: one line
//   folders: [names of model folders, best first]
//   layouts: {NAME: {transformer, vae, text_encoder, tokenizer}}      paths from the model folder; MAGI-1 also: special_tokens
//   architecture: {family, dim, ffn, heads, layers, ...}             for dry runs without weights; models read their
//   tensors defaults: options as in any options file, those that a recipe may set
//
// Errors: usage for a name that is no recipe (with the nearest and the list), bad_file for recipes that do not parse
// and for missing model files (with every place that was looked at).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runtime/options.h"

namespace longtake {

// The transformer's sizes and every part's parameter count; 0 where unknown.
struct Architecture {
  std::string family;  // skyreels-v2 | magi-1 (families.h)
  int64_t dim = 0, ffn = 0, heads = 0, layers = 0, freq_dim = 0, text_dim = 0, text_len = 0;
  int64_t transformer_parameters = 0, text_parameters = 0, vae_parameters = 0;

  // Of skyreels-v2.
  bool fps_embedding = false;
  std::string distance;  // polynomial | linear: how step changes become MotionCache's distances; empty: polynomial

  // Of Wan's VAE, which skyreels-v2 has, and magi-1 where they are given.
  std::vector<int64_t> vae_stages;  // channels of its four stages, the one at full resolution first; empty: unknown
  int64_t vae_blocks = 0;           // residual blocks of an encoder stage

  // Of magi-1 (magi_recipe.h).
  int64_t kv_heads = 0, latent_channels = 0, vae_dim = 0, vae_depth = 0, vae_heads = 0;
  bool gated_mlp = false;        // SwiGLU, else GELU
  bool doubled_latents = false;  // latents go in twice
  double latent_scale = 1;       // latents * this go in, velocities / this come out
  bool umt5 = false;             // the text encoder is UMT5, else T5 v1.1
  bool distilled = false, fp8 = false;
  double guided_until = 0;  // base models: time up to which there is guidance
};

// Paths of the parts relative to the model folder; a folder stands for all weight files in it.
struct FileLayout {
  std::string name, transformer, vae, text_encoder, tokenizer;
  std::string special_tokens{};  // of magi-1 models that have special rows; empty in others
};

struct Recipe {
  std::string name, description;
  std::filesystem::path path;
  std::vector<std::string> folders;
  std::vector<FileLayout> layouts;
  Architecture architecture;
  std::vector<OptionAssignment> defaults;
};

struct ModelFiles {
  std::filesystem::path folder;
  std::string layout;
  std::filesystem::path transformer, vae, text_encoder, tokenizer;
  std::filesystem::path special_tokens{};  // empty where the model has none
};

// Where to look, best first.
struct ModelSearch {
  std::vector<std::filesystem::path> recipes;  // folders of NAME.yaml
  std::vector<std::filesystem::path> models;   // folders of model folders
};

// The source tree while it is there, then the installed files; models first in the folders that the variable
// LONGTAKE_MODELS lists, separated by colons.
ModelSearch default_search();

// Every recipe, by name; the first of a name wins.
std::vector<Recipe> list_recipes(const ModelSearch& search);
Recipe find_recipe(const std::string& name, const ModelSearch& search);
Recipe read_recipe(const std::filesystem::path& path);
Recipe parse_recipe(const std::string& text, const std::filesystem::path& path);  // the content of a file of this name

struct ResolvedModel {
  Recipe recipe;
  std::optional<ModelFiles> files;
  std::string missing;  // where files is empty: what was looked for

  // The files, or the Error (bad_file) that says where they were looked for.
  const ModelFiles& require_files() const;
};

// What -m means: the name of a recipe, whose folders are then searched for; or a model folder (anything with a slash in
// it, or a folder that is no recipe's name). A folder's recipe is its own recipe.yaml, else what the configuration of a MAGI-1
// model in it says (config.json), else the recipe that names the folder (usage where the folder holds several such models),
// else the first whose sizes its config.json has, else one of built-in defaults called after the folder.
ResolvedModel resolve_model(const std::string& name_or_folder, const ModelSearch& search);

}  // namespace longtake
