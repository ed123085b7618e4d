#include "runtime/recipe.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/suggest.h"
#include "base/utf8.h"
#include "runtime/families.h"
#include "runtime/magi_recipe.h"
#include "runtime/options_yaml.h"

namespace longtake {
namespace fs = std::filesystem;
namespace {

// The layouts of the published repositories: what a folder without a recipe may look like.
const std::vector<FileLayout>& published_layouts() {
  static const std::vector<FileLayout> layouts = {
      {"original", ".", "Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl/spiece.model"},
      {"diffusers", "transformer", "vae", "text_encoder", "tokenizer/spiece.model"}};
  return layouts;
}

int64_t integer(const YamlEntry& entry, const std::string& what) {
  const std::string text = entry.scalar(what);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0)
    fail_usage("{}: {} must be a whole number, found '{}'", entry.place, what, printable(text));
  return value;
}

bool truth(const YamlEntry& entry) {
  const std::string text = entry.scalar(entry.key);
  if (text != "true" && text != "false") fail_usage("{}: {} must be true or false", entry.place, entry.key);
  return text == "true";
}

// From 0 to 1.
double number(const YamlEntry& entry) {
  const std::string text = entry.scalar(entry.key);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value > 0 && value <= 1))
    fail_usage("{}: {} must be a number above 0, at most 1, found '{}'", entry.place, entry.key, printable(text));
  return value;
}

[[noreturn]] void unknown(const YamlEntry& entry, const std::string& what, const std::vector<std::string>& known) {
  fail_usage("{}: unknown key '{}' in {}{}; known are {}", entry.place, printable(entry.key), what,
             did_you_mean(entry.key, known), fmt::join(known, ", "));
}

std::vector<YamlEntry> section(const YamlEntry& entry, const std::string& origin) {
  if (!entry.value.IsMap()) entry.fail_expected(entry.key, "a mapping");
  return yaml_entries(entry.value, origin);
}

std::vector<std::string> names(const YamlEntry& entry) {
  if (!entry.value.IsSequence()) entry.fail_expected(entry.key, "a list of names");
  std::vector<std::string> out;
  for (const auto& item : entry.value) out.push_back(YamlEntry{entry.key, item, entry.place}.scalar(entry.key));
  return out;
}

FileLayout read_layout(const YamlEntry& entry, const std::string& origin) {
  FileLayout layout;
  layout.name = entry.key;
  const std::map<std::string, std::string FileLayout::*> parts = {{"transformer", &FileLayout::transformer},
                                                                  {"vae", &FileLayout::vae},
                                                                  {"text_encoder", &FileLayout::text_encoder},
                                                                  {"tokenizer", &FileLayout::tokenizer},
                                                                  {"special_tokens", &FileLayout::special_tokens}};
  std::vector<std::string> known;
  for (const auto& [key, member] : parts) known.push_back(key);
  for (const YamlEntry& part : section(entry, origin)) {
    const auto found = parts.find(part.key);
    if (found == parts.end()) unknown(part, "layout " + entry.key, known);
    layout.*found->second = part.scalar(part.key);
  }
  for (const auto& [key, member] : parts)
    if ((layout.*member).empty() && key != "special_tokens") fail_usage("{}: layout {} does not say where the {} is", entry.place, entry.key, key);
  return layout;
}

// Channels of the VAE's stages: each is a multiple of the first.
std::vector<int64_t> stages(const YamlEntry& entry) {
  if (!entry.value.IsSequence()) entry.fail_expected(entry.key, "a list of numbers");
  std::vector<int64_t> out;
  for (const auto& item : entry.value) out.push_back(integer(YamlEntry{entry.key, item, entry.place}, entry.key));
  if (out.size() != 4 || std::any_of(out.begin(), out.end(), [&](int64_t n) { return n < out[0] || out[0] == 0 || n % out[0] != 0; }))
    fail_usage("{}: {} must be four numbers of channels, multiples of the first, found {}", entry.place, entry.key, fmt::join(out, ", "));
  return out;
}

Architecture read_architecture(const YamlEntry& entry, const std::string& origin) {
  Architecture a;
  const std::map<std::string, int64_t Architecture::*> sizes = {
      {"dim", &Architecture::dim},
      {"ffn", &Architecture::ffn},
      {"heads", &Architecture::heads},
      {"layers", &Architecture::layers},
      {"freq_dim", &Architecture::freq_dim},
      {"text_dim", &Architecture::text_dim},
      {"text_len", &Architecture::text_len},
      {"vae_blocks", &Architecture::vae_blocks},
      {"kv_heads", &Architecture::kv_heads},
      {"latent_channels", &Architecture::latent_channels},
      {"vae_dim", &Architecture::vae_dim},
      {"vae_depth", &Architecture::vae_depth},
      {"vae_heads", &Architecture::vae_heads},
      {"transformer_parameters", &Architecture::transformer_parameters},
      {"text_parameters", &Architecture::text_parameters},
      {"vae_parameters", &Architecture::vae_parameters}};
  const std::map<std::string, bool Architecture::*> flags = {{"fps_embedding", &Architecture::fps_embedding},
                                                             {"gated_mlp", &Architecture::gated_mlp},
                                                             {"doubled_latents", &Architecture::doubled_latents},
                                                             {"umt5", &Architecture::umt5},
                                                             {"distilled", &Architecture::distilled},
                                                             {"fp8", &Architecture::fp8}};
  const std::map<std::string, double Architecture::*> numbers = {{"latent_scale", &Architecture::latent_scale},
                                                                 {"guided_until", &Architecture::guided_until}};
  std::vector<std::string> known = {"family", "distance", "vae_stages"};
  for (const auto& [key, member] : sizes) known.push_back(key);
  for (const auto& [key, member] : flags) known.push_back(key);
  for (const auto& [key, member] : numbers) known.push_back(key);
  for (const YamlEntry& value : section(entry, origin)) {
    if (value.key == "family") {
      a.family = value.scalar(value.key);
      check_family(a.family, value.place);
    } else if (const auto flag = flags.find(value.key); flag != flags.end()) {
      a.*flag->second = truth(value);
    } else if (const auto real = numbers.find(value.key); real != numbers.end()) {
      a.*real->second = number(value);
    } else if (value.key == "distance") {
      a.distance = value.scalar(value.key);
      if (a.distance != "polynomial" && a.distance != "linear")
        fail_usage("{}: distance must be polynomial or linear, found '{}'", value.place, printable(a.distance));
    } else if (value.key == "vae_stages") {
      a.vae_stages = stages(value);
    } else {
      const auto found = sizes.find(value.key);
      if (found == sizes.end()) unknown(value, "architecture", known);
      a.*found->second = integer(value, value.key);
    }
  }
  return a;
}

// Whether a part's path holds weights (or the tokenizer's model).
bool is_there(const fs::path& path) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) return true;
  if (!fs::is_directory(path, error)) return false;
  for (const auto& entry : fs::directory_iterator(path, error))
    if (entry.path().extension() == ".safetensors" || entry.path().extension() == ".bin") return true;
  return false;
}

// The first layout that is complete in `folder`; otherwise what the fullest one lacks goes to `missing`.
std::optional<ModelFiles> find_files(const Recipe& recipe, const fs::path& folder, std::string& missing) {
  size_t fewest = SIZE_MAX;
  for (const FileLayout& layout : recipe.layouts) {
    ModelFiles files{folder,
                     layout.name,
                     (folder / layout.transformer).lexically_normal(),
                     folder / layout.vae,
                     folder / layout.text_encoder,
                     folder / layout.tokenizer,
                     layout.special_tokens.empty() ? fs::path() : folder / layout.special_tokens};
    std::vector<std::string> lacking;
    for (const auto& [part, path] : {std::pair<const char*, const fs::path&>{"transformer", files.transformer},
                                     {"VAE", files.vae},
                                     {"text encoder", files.text_encoder},
                                     {"tokenizer", files.tokenizer},
                                     {"special tokens", files.special_tokens}})
      if (!path.empty() && !is_there(path)) lacking.push_back(fmt::format("no {} at {}", part, path.string()));
    if (lacking.empty()) return files;
    if (lacking.size() < fewest) {
      fewest = lacking.size();
      missing = fmt::format("{}", fmt::join(lacking, ", "));
    }
  }
  return std::nullopt;
}

// dim and layers of the folder's config.json, in the original's words or those of Diffusers.
std::optional<std::pair<int64_t, int64_t>> config_sizes(const fs::path& folder) {
  for (const char* name : {"config.json", "transformer/config.json"}) {
    std::ifstream file(folder / name);
    const auto json = nlohmann::json::parse(file, nullptr, false);
    if (!json.is_object()) continue;
    auto number = [&](const char* key) {
      return json.contains(key) && json[key].is_number_unsigned() ? json[key].get<int64_t>() : 0;
    };
    const int64_t dim = number("dim") ? number("dim") : number("num_attention_heads") * number("attention_head_dim");
    if (dim > 0 && number("num_layers") > 0) return std::pair{dim, number("num_layers")};
  }
  return std::nullopt;
}

// The recipe that names the folder. A folder may hold several models, such as all sizes of MAGI-1: then the one that is complete.
std::optional<Recipe> recipe_of_name(const fs::path& folder, const std::vector<Recipe>& recipes) {
  std::vector<const Recipe*> named, complete;
  std::string ignored;
  for (const Recipe& recipe : recipes)
    if (std::find(recipe.folders.begin(), recipe.folders.end(), folder.filename()) != recipe.folders.end()) {
      named.push_back(&recipe);
      if (find_files(recipe, folder, ignored)) complete.push_back(&recipe);
    }
  if (named.empty()) return std::nullopt;
  if (complete.size() > 1 && named.size() > 1) {
    std::vector<std::string> names;
    for (const Recipe* recipe : complete) names.push_back(recipe->name);
    fail_usage("{} holds the models {}; name one of them with -m, and set LONGTAKE_MODELS to {}", folder.string(), fmt::join(names, ", "),
               folder.parent_path().string());
  }
  return *(complete.empty() ? named : complete).front();
}

Recipe recipe_of_folder(const fs::path& folder, const ModelSearch& search) {
  if (fs::is_regular_file(folder / "recipe.yaml")) {
    Recipe own = read_recipe(folder / "recipe.yaml");
    own.name = folder.filename().string();
    return own;
  }
  if (auto own = magi_recipe_of_folder(folder)) return *own;
  const auto recipes = list_recipes(search);
  if (const auto named = recipe_of_name(folder, recipes)) return *named;
  if (const auto sizes = config_sizes(folder))
    for (const Recipe& recipe : recipes)
      if (recipe.architecture.dim == sizes->first && recipe.architecture.layers == sizes->second) return recipe;
  Recipe plain;
  plain.name = folder.filename().string();
  plain.description = "a model folder without a recipe";
  plain.layouts = published_layouts();
  return plain;
}

}  // namespace

ModelSearch default_search() {
  ModelSearch search;
  if (const char* list = std::getenv("LONGTAKE_MODELS")) {
    std::string_view rest = list;
    while (!rest.empty()) {
      const std::string_view entry = rest.substr(0, rest.find(':'));
      if (!entry.empty()) search.models.emplace_back(entry);
      rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
    }
  }
  const fs::path source = LONGTAKE_SOURCE_DIR, share = LONGTAKE_SHARE_DIR;
  search.recipes = {source / "configs", share / "configs"};
  search.models.insert(search.models.end(), {source / "share" / "models", share / "models"});
  return search;
}

Recipe read_recipe(const fs::path& path) { return parse_recipe(read_text_file(path), path); }

Recipe parse_recipe(const std::string& text, const fs::path& path) {
  const std::string origin = path.string();
  Recipe recipe;
  recipe.path = path;
  recipe.name = path.stem().string();
  try {
    const YAML::Node document = parse_yaml(text, origin);
    for (const YamlEntry& entry : yaml_entries(document, origin)) {
      if (entry.key == "description")
        recipe.description = entry.scalar(entry.key);
      else if (entry.key == "folders")
        recipe.folders = names(entry);
      else if (entry.key == "architecture")
        recipe.architecture = read_architecture(entry, origin);
      else if (entry.key == "layouts") {
        for (const YamlEntry& layout : section(entry, origin)) recipe.layouts.push_back(read_layout(layout, origin));
      } else if (entry.key == "defaults") {
        if (!entry.value.IsMap()) entry.fail_expected(entry.key, "a mapping");
        recipe.defaults = option_assignments(entry.value, origin);
        OptionSet().apply_recipe(recipe.defaults);  // checks keys and values
      } else {
        unknown(entry, "the recipe", {"description", "folders", "layouts", "architecture", "defaults"});
      }
    }
    if (recipe.layouts.empty()) fail_usage("{}: the recipe has no layouts", origin);
    check_recipe_family(recipe, origin);
  } catch (const Error& error) {
    throw Error(ExitCode::bad_file, error.what());  // a recipe is a file of the program, not the user's input
  }
  for (OptionAssignment& assignment : recipe.defaults) assignment.where = "recipe " + recipe.name;
  return recipe;
}

std::vector<Recipe> list_recipes(const ModelSearch& search) {
  std::map<std::string, fs::path> paths;
  for (const fs::path& folder : search.recipes) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error))
      if (entry.path().extension() == ".yaml") paths.emplace(entry.path().stem().string(), entry.path());
  }
  std::vector<Recipe> recipes;
  for (const auto& [name, path] : paths) recipes.push_back(read_recipe(path));
  return recipes;
}

Recipe find_recipe(const std::string& name, const ModelSearch& search) {
  std::vector<std::string> known;
  for (Recipe& recipe : list_recipes(search)) {
    if (recipe.name == name) return recipe;
    known.push_back(recipe.name);
  }
  if (known.empty()) {
    std::vector<std::string> places;
    for (const fs::path& folder : search.recipes) places.push_back(folder.string());
    fail_file("no model recipes found in {}; is longtake installed completely?", fmt::join(places, ", "));
  }
  fail_usage("'{}' is neither a model recipe{} nor a folder; the recipes are {}", printable(name),
             did_you_mean(name, known), fmt::join(known, ", "));
}

const ModelFiles& ResolvedModel::require_files() const {
  if (files) return *files;
  throw Error(ExitCode::bad_file, missing);
}

ResolvedModel resolve_model(const std::string& name_or_folder, const ModelSearch& search) {
  ResolvedModel resolved;
  std::error_code error;
  const bool is_folder = fs::is_directory(name_or_folder, error);
  if (is_folder || name_or_folder.find('/') != std::string::npos) {
    const auto recipes = list_recipes(search);
    const bool is_name =
        std::any_of(recipes.begin(), recipes.end(), [&](const Recipe& r) { return r.name == name_or_folder; });
    if (!is_name) {
      if (!is_folder) fail_file("{}: there is no such model folder", name_or_folder);
      fs::path folder = fs::absolute(name_or_folder).lexically_normal();
      if (!folder.has_filename()) folder = folder.parent_path();
      resolved.recipe = recipe_of_folder(folder, search);
      std::string missing;
      resolved.files = find_files(resolved.recipe, folder, missing);
      if (!resolved.files)
        resolved.missing =
            fmt::format("{}: is not a complete model of recipe {}: {}", folder.string(), resolved.recipe.name, missing);
      return resolved;
    }
  }

  resolved.recipe = find_recipe(name_or_folder, search);
  std::vector<std::string> places;
  for (const fs::path& root : search.models) {
    for (const std::string& name : resolved.recipe.folders) {
      const fs::path folder = root / name;
      std::string missing;
      resolved.files = fs::is_directory(folder, error) ? find_files(resolved.recipe, folder, missing) : std::nullopt;
      if (resolved.files) return resolved;
      places.push_back(missing.empty() ? folder.string() : fmt::format("{} ({})", folder.string(), missing));
    }
  }
  resolved.missing = fmt::format(
      "no files of model {} found; looked at {}; set LONGTAKE_MODELS to the folder that holds {}, or give the model's "
      "folder with -m",
      resolved.recipe.name, fmt::join(places, ", "), fmt::join(resolved.recipe.folders, " or "));
  return resolved;
}

}  // namespace longtake
