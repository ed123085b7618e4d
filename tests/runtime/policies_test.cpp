// Every policy on the tiny model: what it saves, what it counts, and that saving nothing changes nothing.
#include "runtime/policies.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>

#include "tests/catch.h"
#include "tests/runtime/tiny_run.h"

using namespace longtake;

TEST_CASE("policies that never save give the result of what they run on, and count the same FLOPs") {
  const TinyModel model;
  for (const auto& [base, policies] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"causal", {"motioncache:threshold=0", "flowcache:threshold=0", "predict:threshold=0", "driftcache:threshold=0",
             "teacache:base=causal,threshold=0"}},
           {"none", {"teacache:threshold=0"}}}) {
    const TinyRun plain = tiny_run(model, base);
    for (const std::string& policy : policies) {
      INFO(policy);
      const TinyRun full = tiny_run(model, policy);
      CHECK(at::equal(plain.latents, full.latents));
      CHECK(full.stats.total().recomputed == plain.stats.total().recomputed);
      CHECK(full.stats.total().flops == plain.stats.total().flops);
      CHECK(full.stats.total().flops_saved == 0);
    }
  }
}

TEST_CASE("spent and saved FLOPs add up to those of the run that saves nothing, for every policy") {
  const TinyModel model;
  const WorkCount causal = tiny_run(model, "causal").stats.total(), none = tiny_run(model, "none").stats.total();
  for (const std::string& policy : kSavingPolicies) {
    INFO(policy);
    const WorkCount& all = policy.starts_with("teacache:ret") ? none : causal;
    const WorkCount some = tiny_run(model, policy).stats.total();
    CHECK(some.recomputed + some.reused + some.predicted == all.recomputed);
    const bool predicts = choose_policy(parse_policy(policy), false).residuals() == 2;
    CHECK((predicts ? some.predicted : some.reused) > 0);
    CHECK((predicts ? some.reused : some.predicted) == 0);
    CHECK(std::abs(some.flops + some.flops_saved - all.flops) < 1e-6 * all.flops);
    CHECK(some.flops < all.flops);
  }
}

TEST_CASE("a row that teacache skips runs nothing, waiting chunks included") {
  const TinyModel model;
  const TinyRun run = tiny_run(model, "teacache:ret=2,distance=linear,threshold=0.6");
  std::map<std::tuple<int, int, int>, std::pair<int64_t, int64_t>> rows;  // (window, row, branch) -> recomputed, all
  for (const DecisionRecord& d : run.decisions) {
    auto& [recomputed, tokens] = rows[{d.window, d.row, d.branch}];
    recomputed += d.recomputed;
    tokens += d.tokens;
  }
  int skipped = 0;
  for (const auto& [key, count] : rows) {
    CHECK((count.first == 0 || count.first == count.second));
    skipped += count.first == 0;
  }
  CHECK(skipped > 0);
}

TEST_CASE("the help of policies names every policy, preset and key with its default") {
  const std::string text = describe_policies();
  for (const char* word : {"none", "causal", "teacache", "flowcache", "motioncache", "predict", "driftcache", "own, slow, fast", "base", "ret", "clip", "limit",
                           "phase1", "min_ratio", "distance"})
    CHECK_THAT(text, Catch::Matchers::ContainsSubstring(word));
  CHECK_THAT(text, Catch::Matchers::ContainsSubstring("number between 0 and 1; default: 0.6"));
}

TEST_CASE("keys of every policy are checked") {
  const auto refused = [](const char* text, const char* what) {
    INFO(text);
    CHECK_THROWS_WITH(choose_policy(parse_policy(text), false), Catch::Matchers::ContainsSubstring(what));
  };
  refused("teacache:base=full", "base must be one of none, causal");
  refused("driftcache:unit=frame", "unit must be one of chunk, column, token");
  refused("teacache:ret=0", "between 1 and 1000");
  refused("teacache:treshold=1", "did you mean 'threshold'");
  refused("flowcache:medium", "presets are slow, fast");
  refused("flowcache:floor=0.5", "flowcache has no key 'floor'");
  refused("predict:limit=1.5", "whole number");
  refused("predict:clip=-1", "between 0 and 100");
  refused("predict:vote=2", "off or a number");
  refused("motioncache:last_step=maybe", "on or off");
  refused("motioncache:distance=cubic", "polynomial, linear");
  refused("causal:threshold=1", "takes no keys");
  const auto tea = choose_policy(parse_policy("teacache:fast,base=causal"), false);
  CHECK(tea.attention == AttentionScheme::causal);
  CHECK(std::get<TeaCacheSettings>(tea.settings).threshold == 0.3);
  CHECK(choose_policy(parse_policy("teacache"), false).attention == AttentionScheme::window);
  const auto flow = choose_policy(parse_policy("flowcache:fast,warmup=2,distance=linear"), false);
  CHECK(std::get<FlowCacheSettings>(flow.settings).threshold == 0.15);
  CHECK(std::get<FlowCacheSettings>(flow.settings).warmup == 2);
  CHECK(flow.distance == DistanceRule::linear);
  const auto predict = std::get<PredictSettings>(choose_policy(parse_policy("predict:fast,clip=2,floor=0.3"), false).settings);
  CHECK(predict.motion.threshold == 0.15);
  CHECK(predict.motion.floor == 0.3);
  CHECK(predict.clip == 2);
  CHECK(predict.residuals() == 2);
}
