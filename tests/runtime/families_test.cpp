// Which options mean something to which family of models.
#include "runtime/families.h"

#include "base/error.h"
#include "tests/catch.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string told(const std::string& recipe, const std::string& assignment) {
  OptionSet options;
  const Recipe r = find_recipe(recipe, default_search());
  options.apply_recipe(r.defaults);
  options.set(assignment);
  try {
    check_options(options, r);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::usage);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("options that mean nothing to a model are refused with the reason") {
  CHECK_THAT(told("magi-1-4.5b", "sampling.shift=5"),
             ContainsSubstring("--set: sampling.shift has no effect on magi-1-4.5b: its noise levels are those of its training; leave it out"));
  CHECK_THAT(told("magi-1-4.5b-distill", "sampling.guidance=5"), ContainsSubstring("built in"));
  CHECK_THAT(told("demo", "sampling.key_chunks=5,4"), ContainsSubstring("has no effect on demo"));
  CHECK(told("magi-1-4.5b", "sampling.guidance=5") == "");
  CHECK(told("magi-1-4.5b-distill", "sampling.key_chunks=all") == "");
  CHECK(told("demo", "sampling.shift=5") == "");
  // Wan's VAE goes latent frame by latent frame, MAGI-1's own does not.
  CHECK_THAT(told("magi-1-4.5b", "run.decode_latents=1"), ContainsSubstring("tile by tile"));
  Recipe wan = find_recipe("magi-1-4.5b", default_search());
  wan.architecture.vae_stages = {8, 16, 32, 64};
  CHECK(without_effect(wan, "run.decode_latents") == "");
  for (const char* both : {"run.text_cache=off", "run.memory_budget=20GB", "run.offload=true"}) {
    CHECK(told("magi-1-24b", both) == "");
    CHECK(told("demo", both) == "");
  }
}

TEST_CASE("every reason belongs to an option, and each family has some of its own") {
  const ModelSearch search = default_search();
  const auto without = [&](const char* name) { return options_without_effect(find_recipe(name, search)); };
  CHECK(without("demo") == std::vector<std::string>{"sampling.in_flight", "sampling.key_chunks", "sampling.clean_key_chunks",
                                                     "sampling.prev_guidance", "sampling.special_tokens"});
  const auto base = without("magi-1-24b"), distilled = without("magi-1-24b-distill");
  CHECK(distilled.size() == base.size() + 2);
  for (const std::string key : {"sampling.shift", "sampling.window", "sampling.overlap", "sampling.ar_step", "sampling.addnoise", "negative"})
    CHECK(std::find(base.begin(), base.end(), key) != base.end());
}

TEST_CASE("verbs that run one family say so of the other") {
  const ModelSearch search = default_search();
  CHECK_NOTHROW(require_skyreels(find_recipe("demo", search), "compare"));
  CHECK_THROWS_AS(require_skyreels(find_recipe("magi-1-24b", search), "compare"), Error);
  CHECK_THROWS_AS(check_family("magi", "x"), Error);
}
