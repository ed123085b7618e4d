#include "runtime/recipe.h"

#include <unistd.h>

#include <fstream>

#include "base/error.h"
#include "runtime/families.h"
#include "runtime/magi_recipe.h"
#include "tests/catch.h"

using namespace longtake;
namespace fs = std::filesystem;

namespace {

// A temporary folder of recipes and models.
struct Shelf {
  fs::path root;
  ModelSearch search;

  Shelf() {
    std::string pattern = (fs::temp_directory_path() / "longtake-recipe-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    root = pattern;
    search.recipes = {root / "configs", fs::path(LONGTAKE_SOURCE_DIR) / "configs"};
    search.models = {root / "first", root / "second"};
    for (const auto& folder : {"configs", "first", "second"}) fs::create_directories(root / folder);
  }
  ~Shelf() { fs::remove_all(root); }

  void write(const fs::path& path, const std::string& text = "x") const {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  }
  // Everything the original layout needs, but for `without`.
  void original(const fs::path& folder, const std::string& without = "") const {
    for (const std::string file : {"model-00001-of-00002.safetensors", "Wan2.1_VAE.pth",
                                   "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl/spiece.model"})
      if (file != without) write(folder / file);
  }
  void diffusers(const fs::path& folder) const {
    for (const char* file :
         {"transformer/a.safetensors", "vae/a.safetensors", "text_encoder/a.safetensors", "tokenizer/spiece.model"})
      write(folder / file);
  }
};

std::string message(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

ExitCode code(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.code();
  }
  return ExitCode::ok;
}

const std::string kName = "skyreels-v2-df-1.3b-540p", kFolder = "SkyReels-V2-DF-1.3B-540P";
const std::string kLayouts = "layouts: {x: {transformer: t, vae: v, text_encoder: e, tokenizer: k}}\n";

}  // namespace

TEST_CASE("the shipped recipes are sound") {
  Shelf shelf;
  std::vector<std::string> names;
  for (const Recipe& recipe : list_recipes(shelf.search)) {
    INFO(recipe.name);
    names.push_back(recipe.name);
    CHECK_FALSE(recipe.description.empty());
    CHECK_FALSE(recipe.folders.empty());
    CHECK((recipe.architecture.family == kSkyreelsFamily || recipe.architecture.family == kMagiFamily));
    CHECK(recipe.architecture.dim % recipe.architecture.heads == 0);
    CHECK(recipe.architecture.layers > 0);

    // A recipe says everything that is its business but the policy, and its own defaults make a valid run.
    OptionSet options;
    options.apply_recipe(recipe.defaults);
    for (const OptionInfo& info : option_schema()) {
      INFO(info.key);
      const bool means_something = without_effect(recipe, info.key).empty();
      if (info.from_recipe && info.key != "policy" && means_something) CHECK(options.source(info.key).level == SourceLevel::recipe);
    }
    CHECK_NOTHROW(check_options(options, recipe));
    CHECK(options.source("video.frames").where == "recipe " + recipe.name);
    if (is_magi(recipe)) {
      CHECK_NOTHROW(magi_config(recipe, options.values()));
      CHECK_NOTHROW(magi_text_settings(options.values().special_tokens));
      continue;
    }
    options.set("prompt=x");
    options.set("out=x.mp4");
    CHECK_NOTHROW(validate(options.values()));
    const WindowPlan plan = plan_video(options.values());
    CHECK(plan.windows[0].latent_frames % options.values().chunk == 0);
  }
  CHECK(names == std::vector<std::string>{"demo", "demo-magi", "demo-magi-distill", "magi-1-24b", "magi-1-24b-distill", "magi-1-24b-distill-fp8", "magi-1-4.5b",
                                          "magi-1-4.5b-distill", "magi-1-4.5b-distill-fp8", kName, "skyreels-v2-df-14b-540p",
                                          "skyreels-v2-df-14b-720p"});
  const Recipe r = find_recipe(kName, shelf.search);
  CHECK(r.architecture.dim == 1536);
  CHECK(r.architecture.ffn == 8960);
  CHECK(r.architecture.fps_embedding);
  CHECK(r.architecture.transformer_parameters == 1435525696);
}

TEST_CASE("unknown models are refused with the nearest and the list") {
  Shelf shelf;
  CHECK(message([&] { find_recipe("dem", shelf.search); }) ==
        "'dem' is neither a model recipe (did you mean 'demo'?) nor a folder; the recipes are demo, demo-magi, demo-magi-distill, "
        "magi-1-24b, magi-1-24b-distill, magi-1-24b-distill-fp8, magi-1-4.5b, magi-1-4.5b-distill, magi-1-4.5b-distill-fp8, "
        "skyreels-v2-df-1.3b-540p, skyreels-v2-df-14b-540p, skyreels-v2-df-14b-720p");
  CHECK(code([&] { find_recipe("dem", shelf.search); }) == ExitCode::usage);
  CHECK(code([&] { resolve_model("no/such/folder", shelf.search); }) == ExitCode::bad_file);
  ModelSearch nothing{{shelf.root / "none"}, {}};
  CHECK(message([&] { find_recipe("demo", nothing); }) ==
        "no model recipes found in " + (shelf.root / "none").string() + "; is longtake installed completely?");
}

TEST_CASE("a recipe's folders are searched in order, in both layouts") {
  Shelf shelf;
  const ResolvedModel none = resolve_model(kName, shelf.search);
  CHECK(none.recipe.name == kName);
  CHECK_FALSE(none.files.has_value());
  const std::string first = (shelf.root / "first").string(), second = (shelf.root / "second").string();
  CHECK(message([&] { none.require_files(); }) ==
        "no files of model " + kName + " found; looked at " + first + "/" + kFolder + ", " + first + "/" + kFolder +
            "-Diffusers, " + second + "/" + kFolder + ", " + second + "/" + kFolder +
            "-Diffusers; set LONGTAKE_MODELS to the folder that holds " + kFolder + " or " + kFolder +
            "-Diffusers, or give the model's folder with -m");
  CHECK(code([&] { none.require_files(); }) == ExitCode::bad_file);

  shelf.diffusers(fs::path("second") / (kFolder + "-Diffusers"));
  const ModelFiles later = resolve_model(kName, shelf.search).require_files();
  CHECK(later.layout == "diffusers");
  CHECK(later.folder == shelf.root / "second" / (kFolder + "-Diffusers"));
  CHECK(later.tokenizer == later.folder / "tokenizer" / "spiece.model");

  // An incomplete folder is passed over, and its lack is told where nothing better is found.
  shelf.original(fs::path("first") / kFolder, "Wan2.1_VAE.pth");
  CHECK(resolve_model(kName, shelf.search).require_files().layout == "diffusers");
  fs::remove_all(shelf.root / "second");
  CHECK_THAT(resolve_model(kName, shelf.search).missing,
             Catch::Matchers::ContainsSubstring("(no VAE at " + first + "/" + kFolder + "/Wan2.1_VAE.pth)"));

  shelf.original(fs::path("first") / kFolder);
  const ModelFiles now = resolve_model(kName, shelf.search).require_files();
  CHECK(now.layout == "original");
  CHECK(fs::is_directory(now.transformer));
  CHECK(now.vae == shelf.root / "first" / kFolder / "Wan2.1_VAE.pth");
}

TEST_CASE("a folder's recipe is found by its own file, its name or its sizes") {
  Shelf shelf;
  shelf.original("models/" + kFolder);
  const ResolvedModel named = resolve_model((shelf.root / "models" / kFolder).string() + "/", shelf.search);
  CHECK(named.recipe.name == kName);
  CHECK(named.files.has_value());

  shelf.original("models/mine");
  const std::string mine = (shelf.root / "models/mine").string();
  const ResolvedModel plain = resolve_model(mine, shelf.search);
  CHECK(plain.recipe.name == "mine");
  CHECK(plain.recipe.defaults.empty());
  CHECK(plain.files.has_value());

  shelf.write("models/mine/config.json", R"({"dim": 5120, "num_layers": 40, "num_heads": 40})");
  CHECK(resolve_model(mine, shelf.search).recipe.name == "skyreels-v2-df-14b-540p");
  shelf.write("models/mine/config.json", "{ not json");
  CHECK(resolve_model(mine, shelf.search).recipe.name == "mine");
  shelf.write("models/mine/transformer/config.json",
              R"({"num_attention_heads": 12, "attention_head_dim": 128, "num_layers": 30})");
  CHECK(resolve_model(mine, shelf.search).recipe.name == kName);

  shelf.write("models/mine/recipe.yaml", kLayouts + "defaults: {sampling: {steps: 7}}\n");
  const ResolvedModel own = resolve_model(mine, shelf.search);
  CHECK(own.recipe.name == "mine");
  CHECK(own.recipe.defaults.at(0).value == "7");
  CHECK_FALSE(own.files.has_value());
  CHECK(own.missing == mine + ": is not a complete model of recipe mine: no transformer at " + mine + "/t, no VAE at " +
                           mine + "/v, no text encoder at " + mine + "/e, no tokenizer at " + mine + "/k");
}

TEST_CASE("a recipe of one's own hides the shipped one of the same name") {
  Shelf shelf;
  shelf.write("configs/demo.yaml", "description: mine\nfolders: [demo]\n" + kLayouts);
  CHECK(find_recipe("demo", shelf.search).description == "mine");
  for (const char* part : {"t/w.safetensors", "v", "e", "k"}) shelf.write(fs::path("first/demo") / part);
  CHECK(resolve_model("demo", shelf.search).require_files().transformer == shelf.root / "first/demo/t");
}

TEST_CASE("mistakes in recipes are bad files, named with their line") {
  Shelf shelf;
  const fs::path path = shelf.root / "configs/bad.yaml";
  auto told = [&](const std::string& text) {
    shelf.write("configs/bad.yaml", text);
    CHECK(code([&] { read_recipe(path); }) == ExitCode::bad_file);
    const std::string full = message([&] { read_recipe(path); });
    CHECK(full.starts_with(path.string()));
    return full.substr(path.string().size());
  };
  CHECK(told("description: x\n") == ": the recipe has no layouts");
  CHECK(
      told("descripton: x\n") ==
      " line 1: unknown key 'descripton' in the recipe (did you mean 'description'?); known are description, folders, "
      "layouts, architecture, defaults");
  CHECK(told("layouts:\n  x: {vae: v}\n") == " line 2: layout x does not say where the text_encoder is");
  CHECK(told(kLayouts + "architecture: {dim: wide}\n") == " line 2: dim must be a whole number, found 'wide'");
  CHECK(told(kLayouts + "architecture: {fps_embedding: 1}\n") == " line 2: fps_embedding must be true or false");
  CHECK(told(kLayouts + "folders: demo\n") == " line 2: folders must be a list of names, found a single value");
  CHECK(told(kLayouts + "defaults:\n  sampling: {steps: 0}\n") ==
        " line 3: sampling.steps must be a whole number from 1 to 1000, found '0'");
  CHECK(told(kLayouts + "defaults: {prompt: x}\n") == " line 2: a recipe cannot set prompt");
}

TEST_CASE("LONGTAKE_MODELS lists folders to search first") {
  const char* before = std::getenv("LONGTAKE_MODELS");
  const std::string saved = before == nullptr ? "" : before;
  setenv("LONGTAKE_MODELS", "/a::/b/c", 1);
  const ModelSearch search = default_search();
  if (before == nullptr)
    unsetenv("LONGTAKE_MODELS");
  else
    setenv("LONGTAKE_MODELS", saved.c_str(), 1);
  REQUIRE(search.models.size() == 4);
  CHECK(search.models[0] == "/a");
  CHECK(search.models[1] == "/b/c");
  CHECK(search.recipes[0] == fs::path(LONGTAKE_SOURCE_DIR) / "configs");
}

TEST_CASE("a recipe's VAE stages are four multiples of the first") {
  Shelf shelf;
  const auto read = [&](const std::string& stages) {
    shelf.write("configs/x.yaml", "layouts: {a: {transformer: ., vae: v, text_encoder: t, tokenizer: s}}\narchitecture: {vae_stages: " + stages + "}\n");
    return read_recipe(shelf.root / "configs/x.yaml").architecture.vae_stages;
  };
  CHECK(read("[8, 16, 32, 64]") == std::vector<int64_t>{8, 16, 32, 64});
  for (const char* wrong : {"[8, 16, 32]", "[8, 12, 32, 64]", "[0, 0, 0, 0]", "[16, 8, 32, 64]", "8", "[a, b, c, d]"}) {
    INFO(wrong);
    CHECK_THROWS_AS(read(wrong), Error);
  }
}
