// Model recipes: what is known about a model before its weights are opened, and where its files are.
//
// A recipe is configs/NAME.yaml:
//   description: one line
//   folders: [names of model folders, best first]
//   layouts: {NAME: {transformer, vae, text_encoder, tokenizer}}      paths below the model folder
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
  std::string family;  // skyreels-v2
  int64_t dim = 0, ffn = 0, heads = 0, layers = 0, freq_dim = 0, text_dim = 0, text_len = 0;
  bool fps_embedding = false;
  std::string distance;  // polynomial | linear: how step changes become MotionCache's distances; empty: polynomial
  std::vector<int64_t> vae_stages;  // channels of the VAE's four stages, the one at full resolution first; empty: unknown
  int64_t vae_blocks = 0;           // residual blocks of an encoder stage
  int64_t transformer_parameters = 0, text_parameters = 0, vae_parameters = 0;
};

// Paths of the four parts relative to the model folder; a folder stands for all *.safetensors in it.
struct FileLayout {
  std::string name, transformer, vae, text_encoder, tokenizer;
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
// it, or a folder that is no recipe's name). A folder's recipe is its own recipe.yaml, else the recipe that names the
// folder, else the first whose sizes its config.json has, else one of built-in defaults called after the folder.
ResolvedModel resolve_model(const std::string& name_or_folder, const ModelSearch& search);

}  // namespace longtake
