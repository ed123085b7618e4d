// longtake models [NAME]: the recipes, and where each model's files are.
#include <fmt/format.h>

#include "apps/commands.h"
#include "runtime/recipe.h"

namespace longtake {
namespace {

void print_list() {
  const ModelSearch search = default_search();
  for (const Recipe& recipe : list_recipes(search)) {
    const ResolvedModel model = resolve_model(recipe.name, search);
    fmt::print("{:<30} {:<10} {}\n", recipe.name, model.files ? "ready" : "no files", recipe.description);
  }
  fmt::print("\nA model is a folder; -m takes a name from this list or the folder's path. longtake models NAME says which files are expected.\n");
}

void print_one(const std::string& name) {
  const ResolvedModel model = resolve_model(name, default_search());
  const Architecture& a = model.recipe.architecture;
  fmt::print("{}: {}\n", model.recipe.name, model.recipe.description);
  if (!a.family.empty()) fmt::print("family: {}{}{}\n", a.family, a.distilled ? ", distilled" : "", a.fp8 ? ", layers in fp8" : "");
  if (a.dim > 0)
    fmt::print("transformer: {} layers of {} ({} heads{}, FFN {}{}){}\n", a.layers, a.dim, a.heads,
               a.kv_heads > 0 ? fmt::format(", {} for K/V", a.kv_heads) : "", a.ffn, a.gated_mlp ? " gated" : "",
               a.transformer_parameters > 0 ? fmt::format(", {:.2f} G parameters", static_cast<double>(a.transformer_parameters) / 1e9) : "");
  fmt::print("defaults:\n");
  for (const OptionAssignment& value : model.recipe.defaults) fmt::print("  {}: {}\n", value.key, value.value);
  if (model.files) {
    const ModelFiles& files = *model.files;
    fmt::print("files ({} layout):\n", files.layout);
    for (const auto& path : {files.transformer, files.vae, files.text_encoder, files.tokenizer, files.special_tokens})
      if (!path.empty()) fmt::print("  {}\n", path.string());
  } else {
    fmt::print("files: not found; {}\n", model.missing);
  }
}

}  // namespace

void add_models(CLI::App& program) {
  auto* verb = program.add_subcommand("models", "List model recipes, or show one");
  auto name = std::make_shared<std::string>();
  verb->add_option("NAME", *name, "A recipe or a model folder");
  verb->callback([name] { name->empty() ? print_list() : print_one(*name); });
}

}  // namespace longtake
