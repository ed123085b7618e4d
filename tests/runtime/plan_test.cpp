// Record and replay on the tiny model.
#include "cache/plan.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>

#include "cache/plan_replay.h"
#include "cache/plan_text.h"
#include "tests/catch.h"
#include "tests/runtime/tiny_run.h"

using namespace longtake;

namespace {

Plan record(const TinyRun& run, AttentionScheme attention) {
  PlanRecorder recorder(attention, "");
  for (const DecisionRecord& d : run.decisions)
    recorder.add({d.window, d.chunk, d.step, TinyGeometry().steps, d.frames, d.plane}, d.branch, d.update, d.decision);
  return parse_plan(plan_text(recorder.plan()), "recorded");
}

TinyRun replay(const TinyModel& model, const Plan& plan, const TinyGeometry& g = {}) {
  const PolicyChoice choice = choose_plan(plan);
  return tiny_run(model, *tiny_policy(model, choice, g), choice.attention, g);
}

}  // namespace

TEST_CASE("what a plan replays equals the run it was recorded from, to the last bit, for every policy") {
  const TinyModel model;
  for (const std::string& policy : kSavingPolicies) {
    INFO(policy);
    const PolicyChoice choice = choose_policy(parse_policy(policy), false);
    const TinyRun run = tiny_run(model, policy);
    const Plan plan = record(run, choice.attention);
    check_plan(plan, *plan.geometry, "recorded");
    const TinyRun again = replay(model, plan);
    CHECK(at::equal(run.latents, again.latents));
    CHECK(run.stats.by_chunk.size() == again.stats.by_chunk.size());
    CHECK(run.stats.total().recomputed == again.stats.total().recomputed);
    CHECK(run.stats.total().reused == again.stats.total().reused);
    CHECK(run.stats.total().predicted == again.stats.total().predicted);
    CHECK(record(again, choice.attention) == plan);
    CHECK(PlanReplay(plan, 2).residuals() == choice.residuals());
  }
}

TEST_CASE("a fraction of one is the full path to the last bit, and a plan of fractions fits any size") {
  const TinyModel model;
  const auto plan_of = [](const std::string& tokens) {
    return parse_plan(R"({"longtake_plan": 1, "decisions": [{"tokens": )" + tokens + R"(}, {"step": "0-1", "tokens": "all"}]})", "hand");
  };
  const TinyRun causal = tiny_run(model, "causal");
  CHECK(at::equal(replay(model, plan_of(R"({"fraction": 1, "seed": 5})")).latents, causal.latents));
  const TinyRun half = replay(model, plan_of(R"({"fraction": 0.5, "seed": 5})"));
  CHECK_FALSE(at::equal(half.latents, causal.latents));
  CHECK(at::equal(half.latents, replay(model, plan_of(R"({"fraction": 0.5, "seed": 5})")).latents));
  CHECK_FALSE(at::equal(half.latents, replay(model, plan_of(R"({"fraction": 0.5, "seed": 6})")).latents));
  const TinyGeometry larger{.height = 6, .width = 8, .frames = {3, 3, 2}};
  const WorkCount work = replay(model, plan_of(R"({"fraction": 0.5, "seed": 5})"), larger).stats.total();
  CHECK(work.reused > 0);
  CHECK(work.recomputed > work.reused);
}

TEST_CASE("every token listed by index or column is the full path to the last bit, keys and values included") {
  const TinyModel model;
  const TinyRun causal = tiny_run(model, "causal");
  for (const std::string tokens : {R"({"columns": "0-5"})", R"({"list": "0-11"})"}) {
    const Plan plan = parse_plan(
        R"({"longtake_plan": 1, "geometry": {"plane": 6, "steps": 8, "branches": 2, "windows": [{"frames": [2, 2, 2, 2]}]},
            "decisions": [{"step": "0-7", "tokens": )" + tokens + R"(}, {"step": 0, "tokens": "all"}]})", "hand");
    const TinyGeometry g{.frames = {2, 2, 2, 2}, .windows = 1};
    CHECK(at::equal(replay(model, plan, g).latents, tiny_run(model, "causal", g).latents));
  }
}
