// MAGI-1's recipes against the published models' sizes, and runs of their options in the reference's terms.
#include "runtime/magi_recipe.h"

#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "models/magi/transformer.h"
#include "models/magi_vae/magi_vae.h"
#include "runtime/families.h"
#include "tests/catch.h"
#include "tests/models/magi_folder.h"
#include "tests/refused.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

// Counts what a model takes, without the memory for it. Nothing that is optional is there.
class CountingSource : public WeightSource {
 public:
  bool has(const std::string&) const override { return false; }
  std::vector<int64_t> shape(const std::string&) const override { return {}; }
  at::Tensor take(const std::string&, const std::vector<int64_t>& shape) override {
    const at::Tensor tensor = at::zeros({}).expand(shape);
    count += tensor.numel();
    return tensor;
  }
  int64_t count = 0;
};

Recipe recipe(const std::string& name) { return find_recipe(name, default_search()); }

GenerateOptions options_of(const Recipe& recipe, const std::vector<std::string>& set = {}) {
  OptionSet options;
  options.apply_recipe(recipe.defaults);
  for (const std::string& assignment : set) options.set(assignment);
  return options.values();
}

std::string told(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::usage);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("MAGI-1's recipes have the parameters of the published models") {
  for (const char* name : {"magi-1-4.5b", "magi-1-4.5b-distill"}) {
    const Recipe r = recipe(name);
    CountingSource transformer, vae;
    magi::Transformer(transformer, magi_sizes(r), r.architecture.distilled);
    MagiVae(vae, magi_vae_config(r));
    CHECK(transformer.count == r.architecture.transformer_parameters);
    CHECK(vae.count == r.architecture.vae_parameters);
  }
}

TEST_CASE("MAGI-1's runs are the published ones until options change them") {
  const Recipe base = recipe("magi-1-4.5b"), large = recipe("magi-1-24b-distill");
  const magi::Config c = magi_config(base, options_of(base));
  CHECK(c.run.branches == 3);
  CHECK(c.run.steps == 64);
  CHECK(c.run.frames == 96);
  CHECK(c.run.key_chunks == std::vector<int>{5, 4, 3, 2});
  CHECK(c.run.guidance_times == std::vector<double>{0, 0.3});
  CHECK(c.run.prev_chunk_scales == std::vector<double>{1.5, 1});
  CHECK(c.run.text_scales == std::vector<double>{7.5, 0});
  CHECK(c.model.head_width == 128);
  CHECK(c.model.condition_dim == 768);
  const magi::Config d = magi_config(large, options_of(large));
  CHECK(d.run.branches == 1);
  CHECK(d.run.steps == 16);
  CHECK(d.run.width == 1280);
  CHECK(d.model.in_channels == 32);
  CHECK(d.model.latent_channels() == 16);
  CHECK(d.model.x_rescale_factor == 0.1);
  CHECK(d.engine.distilled);

  const magi::Config own = magi_config(base, options_of(base, {"sampling.guidance=3", "sampling.prev_guidance=1", "sampling.key_chunks=all",
                                                                "sampling.clean_key_chunks=0", "sampling.in_flight=2", "sampling.steps=6"}));
  CHECK(own.run.text_scales == std::vector<double>{3, 0});
  CHECK(own.run.prev_chunk_scales == std::vector<double>{1, 1});
  CHECK(own.run.key_chunks.empty());
  CHECK(own.run.clean_key_chunks == -1);
  CHECK(own.run.window == 2);
}

TEST_CASE("MAGI-1: lengths are whole chunks, steps fit the window") {
  const Recipe r = recipe("magi-1-4.5b");
  const auto refuse = [&](const std::vector<std::string>& set) { return told([&] { magi_config(r, options_of(r, set)); }); };
  CHECK_THAT(refuse({"video.frames=100"}), ContainsSubstring("multiple of 24") && ContainsSubstring("use 96 or 120"));
  CHECK_THAT(refuse({"video.frames=5"}), ContainsSubstring("use 24") && !ContainsSubstring("or"));
  CHECK_THAT(refuse({"sampling.steps=66"}), ContainsSubstring("found 66"));
  CHECK_THAT(refuse({"sampling.in_flight=3"}), ContainsSubstring("in_flight (3)"));
  for (const char* keys : {"", "5,", "5,x", "0", "-1", "5;4", "99999999999"}) {
    INFO(keys);
    CHECK_THAT(refuse({std::string("sampling.key_chunks=") + keys}), ContainsSubstring("sampling.key_chunks"));
  }
  std::string note;
  CHECK(magi_config(r, options_of(r, {"video.duration=3.1"}), &note).run.frames == 72);
  CHECK_THAT(note, ContainsSubstring("72 frames"));
  CHECK(magi_config(r, options_of(r, {"video.duration=4"}), &note).run.frames == 96);
  CHECK(note.empty());
  CHECK(magi_config(r, options_of(r, {"video.duration=0.01"})).run.frames == 24);
}

TEST_CASE("MAGI-1: special rows by name") {
  const magi::TextSettings usual = magi_text_settings("high_quality,duration");
  CHECK(usual.high_quality);
  CHECK(usual.duration);
  CHECK_FALSE(usual.negative);
  CHECK_FALSE(magi_text_settings("none").duration);
  CHECK(magi_text_settings("2d_anime").two_d_anime);
  CHECK_FALSE(magi_text_settings("2d_anime").high_quality);
  CHECK_THAT(told([] { magi_text_settings("high_qualty"); }), ContainsSubstring("did you mean 'high_quality'"));
  CHECK_THAT(told([] { magi_text_settings("duration,duration"); }), ContainsSubstring("twice"));
  CHECK_THAT(told([] { magi_text_settings(""); }), ContainsSubstring("special_tokens"));
}

TEST_CASE("a recipe made from the reference's configuration gives the same run") {
  test::MagiFolder folder(/*distilled=*/false);
  const Recipe r = *magi_recipe_of_folder(folder.path());
  const std::string text = folder.config().dump();
  const magi::Config want = magi::Config::parse(text, "config.json"), c = magi_config(r, options_of(r));
  CHECK(c.model.dim == want.model.dim);
  CHECK(c.model.kv_heads == want.model.kv_heads);
  CHECK(c.model.caption_length == want.model.caption_length);
  CHECK(c.model.condition_dim == want.model.condition_dim);
  CHECK(c.run.branches == want.run.branches);
  CHECK(c.run.frames == 16);  // 12 are not whole chunks of 8
  CHECK(c.run.steps == want.run.steps);
  CHECK(c.run.key_chunks == want.run.key_chunks);
  CHECK(c.run.chunk_frames == want.run.chunk_frames);
  CHECK(c.run.scale_factor == want.run.scale_factor);
  CHECK(c.run.clean_t == want.run.clean_t);
  // The scales hold for the same times.
  for (const float t : {0.0f, 0.02f, 0.05f, 0.2f, 0.31f, 0.9f}) {
    const auto at = [&](const magi::RunConfig& run, const std::vector<double>& scales) {
      size_t i = 0;
      while (i + 1 < run.guidance_times.size() && run.guidance_times[i + 1] < t) ++i;
      return scales[i];
    };
    CHECK(at(c.run, c.run.text_scales) == at(want.run, want.run.text_scales));
    CHECK(at(c.run, c.run.prev_chunk_scales) == at(want.run, want.run.prev_chunk_scales));
  }

  const auto refuse = [&](const char* section, const char* field, nlohmann::json value) {
    nlohmann::json json = nlohmann::json::parse(text);
    json[section][field] = std::move(value);
    return refused([&] { magi_recipe(magi::Config::parse(json.dump(), "c.json"), "x", "c.json"); });
  };
  CHECK_THAT(refuse("runtime_config", "clean_t", 0.5), ContainsSubstring("'clean_t' is 0.9999"));
  CHECK_THAT(refuse("engine_config", "shortcut_mode", "16,16,8"), ContainsSubstring("'shortcut_mode'"));
  CHECK_THAT(refuse("model_config", "cond_hidden_ratio", 0.5), ContainsSubstring("'cond_hidden_ratio'"));
  CHECK_THAT(refuse("runtime_config", "text_scales", {7.5, 3, 7.5, 0, 0}), ContainsSubstring("'text_scales'"));
}

TEST_CASE("a MAGI-1 folder is known by its configuration or its published layout") {
  const ModelSearch search = default_search();
  test::MagiFolder folder(/*distilled=*/true);
  const ResolvedModel own = resolve_model(folder.path().string(), search);
  CHECK(is_magi(own.recipe));
  CHECK(own.recipe.architecture.distilled);
  REQUIRE(own.files);
  CHECK(own.files->transformer == folder.transformer());
  CHECK(own.files->special_tokens == folder.path() / "special_tokens.npz");
  std::filesystem::remove(folder.path() / "special_tokens.npz");
  CHECK_THAT(resolve_model(folder.path().string(), search).missing, ContainsSubstring("no special tokens at"));

  // All sizes in one folder: each is found by its recipe's name, and the folder alone says too little.
  test::TempFolder shelf;
  const auto put = [&](const std::string& file) {
    std::filesystem::create_directories((shelf / ("MAGI-1/" + file)).parent_path());
    test::write_file(shelf / ("MAGI-1/" + file), "x");
  };
  for (const char* file : {"ckpt/vae/diffusion_pytorch_model.safetensors", "ckpt/t5/t5-v1_1-xxl/pytorch_model-00001-of-00002.bin",
                           "ckpt/t5/t5-v1_1-xxl/spiece.model", "example/assets/special_tokens.npz",
                           "ckpt/magi/4.5B_distill/inference_weight.distill/model-00001-of-00002.safetensors"})
    put(file);
  ModelSearch shelves = search;
  shelves.models = {shelf.path()};
  CHECK(resolve_model((shelf / "MAGI-1").string(), shelves).recipe.name == "magi-1-4.5b-distill");
  CHECK(resolve_model("magi-1-4.5b-distill", shelves).files.has_value());
  CHECK_FALSE(resolve_model("magi-1-24b", shelves).files.has_value());
  put("ckpt/magi/24B_base/inference_weight/model-00001-of-00006.safetensors");
  CHECK(resolve_model("magi-1-24b", shelves).files->transformer == shelf / "MAGI-1/ckpt/magi/24B_base/inference_weight");
  CHECK_THAT(told([&] { resolve_model((shelf / "MAGI-1").string(), shelves); }),
             ContainsSubstring("holds the models magi-1-24b, magi-1-4.5b-distill; name one of them with -m"));
}

TEST_CASE("recipes without MAGI-1's sizes, and recipes of two families, are refused") {
  Recipe r = recipe("magi-1-4.5b");
  r.architecture.kv_heads = 7;
  CHECK_THAT(refused([&] { magi_sizes(r); }), ContainsSubstring("K/V heads"));
  r.architecture.kv_heads = 0;
  CHECK_THAT(refused([&] { magi_sizes(r); }), ContainsSubstring("kv_heads"));
  r.architecture.vae_dim = 100;
  CHECK_THAT(refused([&] { magi_vae_config(r); }), ContainsSubstring("vae_dim"));
  test::TempFolder folder;
  const auto refuse = [&](const std::string& yaml) {
    test::write_file(folder / "x.yaml", yaml);
    return refused([&] { read_recipe(folder / "x.yaml"); });
  };
  const std::string layout = "layouts: {a: {transformer: t, vae: v, text_encoder: e, tokenizer: k}}\n",
                    tokens = "layouts: {a: {transformer: t, vae: v, text_encoder: e, tokenizer: k, special_tokens: s}}\n";
  CHECK_THAT(refuse(layout + "architecture: {family: magi-1}\n"), ContainsSubstring("special_tokens"));
  CHECK_THAT(refuse(tokens + "architecture: {family: skyreels-v2}\n"), ContainsSubstring("special_tokens"));
  CHECK_THAT(refuse(tokens + "architecture: {family: magi-2}\n"), ContainsSubstring("did you mean 'magi-1'"));
  CHECK_THAT(refuse(tokens + "architecture: {family: magi-1, latent_scale: 0}\n"), ContainsSubstring("latent_scale"));
  CHECK_THAT(refuse(tokens + "architecture: {family: magi-1, distilled: 1}\n"), ContainsSubstring("distilled must be true or false"));
  CHECK_THAT(refuse(tokens + "architecture: {family: magi-1}\ndefaults: {sampling: {shift: 3}}\n"), ContainsSubstring("sampling.shift has no effect"));
}
