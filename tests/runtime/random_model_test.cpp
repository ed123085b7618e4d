// Models that exist as sizes of a recipe only.
#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "models/weights/random_source.h"
#include "runtime/engine.h"
#include "runtime/random_model.h"
#include "tests/catch.h"

using namespace longtake;

namespace {

// Counts what a model takes, without the memory for it.
class CountingSource : public WeightSource {
 public:
  bool has(const std::string&) const override { return true; }
  std::vector<int64_t> shape(const std::string&) const override { return {}; }
  at::Tensor take(const std::string&, const std::vector<int64_t>& shape) override {
    const at::Tensor tensor = at::zeros({}).expand(shape);
    count += tensor.numel();
    return tensor;
  }
  int64_t count = 0;
};

RunRequest small_request(const std::string& policy) {
  GenerateOptions o;
  o.prompt = "anything";
  o.policy = policy;
  o.size = {64, 64};
  o.frames = 17, o.window = 17, o.chunk = 2, o.ar_step = 1, o.steps = 4;
  o.seed = 3;
  return make_request(o);
}

}  // namespace

TEST_CASE("the recipes' sizes have the parameters that the published models have") {
  for (const char* name : {"skyreels-v2-df-1.3b-540p", "skyreels-v2-df-14b-540p", "skyreels-v2-df-14b-720p"}) {
    INFO(name);
    const Recipe recipe = find_recipe(name, default_search());
    CountingSource transformer, vae;
    skyreels::Transformer(transformer, transformer_config(recipe));
    WanVae(vae, vae_sizes(recipe));
    CHECK(transformer.count == recipe.architecture.transformer_parameters);
    CHECK(vae.count == recipe.architecture.vae_parameters);
  }
}

TEST_CASE("the demo recipe has the sizes of the demo model's files") {
  const ResolvedModel demo = resolve_model("demo", default_search());
  const skyreels::TransformerConfig files = transformer_config(demo.require_files()),
                                    recipe = transformer_config(demo.recipe);
  CHECK(files.dim == recipe.dim);
  CHECK(files.ffn_dim == recipe.ffn_dim);
  CHECK(files.layers == recipe.layers);
  CHECK(files.heads == recipe.heads);
  CHECK(files.in_channels == recipe.in_channels);
  CHECK(files.out_channels == recipe.out_channels);
  CHECK(files.text_dim == recipe.text_dim);
  CHECK(files.freq_dim == recipe.freq_dim);
  CHECK(files.fps_embedding == recipe.fps_embedding);
  CHECK(list_vae_weights(vae_sizes(demo.require_files())) == list_vae_weights(vae_sizes(demo.recipe)));
}

TEST_CASE("a recipe without sizes is refused") {
  Recipe recipe;
  recipe.name = "nothing";
  CHECK_THROWS_AS(transformer_config(recipe), Error);
  CHECK_THROWS_AS(vae_sizes(recipe), Error);
}

TEST_CASE("an engine with random weights makes the same finite video twice, and another with another seed") {
  const ResolvedModel demo = resolve_model("demo", default_search());
  const auto latents_of = [&](uint64_t seed) {
    Engine engine(demo, {at::kCPU, at::kFloat}, seed);
    const RunRequest request = small_request("causal");
    engine.encode(request.all_texts());
    at::Tensor latents;
    GenerateHooks hooks;
    hooks.on_latents = [&](int, const at::Tensor& x) { latents = x.clone(); };
    hooks.on_frames = [&](const at::Tensor& frames) { CHECK(at::isfinite(frames).all().item<bool>()); };
    engine.run(request, hooks);
    return latents;
  };
  const at::Tensor a = latents_of(1);
  CHECK(at::isfinite(a).all().item<bool>());
  CHECK(at::equal(a, latents_of(1)));
  CHECK_FALSE(at::equal(a, latents_of(2)));
}
