// Plans of MAGI-1: recorded, replayed, and those that a run cannot follow.
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include "base/error.h"
#include "cache/plan_replay.h"
#include "cache/plan_text.h"
#include "tests/catch.h"
#include "tests/runtime/magi_tiny_video.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using test::Output;
using test::TinyVideo;

namespace {

magi::VideoSettings settings_of(const TinyVideo& video, const PolicyChoice& choice) {
  magi::VideoSettings settings = video.settings();
  magi::set_up(settings, choice);
  return settings;
}

Plan record(const TinyVideo& video, const PolicyChoice& choice, const Output& run) {
  PlanRecorder recorder(AttentionScheme::causal, "", settings_of(video, choice).schedule.clean_pass);
  for (const DecisionRecord& d : run.decisions) recorder.add({d.window, d.chunk, d.step, 8, d.frames, d.plane}, d.branch, d.update, d.decision);
  return parse_plan(plan_text(recorder.plan()), "recorded");
}

PlanGeometry geometry_of(const TinyVideo& video) { return magi::plan_geometry(video.settings().size, 6, 8); }

PolicyChoice replay_of(const TinyVideo& video, const Plan& plan) {
  magi::check_plan(plan, geometry_of(video), "plan.json");
  PolicyChoice choice = choose_plan(plan);
  choice.parity = video.parity;
  return choice;
}

Plan by_hand(const std::string& decisions, const std::string& more = "") {
  return parse_plan(R"({"longtake_plan": 1, )" + more + R"("decisions": [)" + decisions + "]}", "plan.json");
}

const std::string kGeometry = R"("geometry": {"plane": 6, "steps": 8, "branches": 1, "windows": [{"frames": [2, 2, 2, 2, 2]}]}, )";

}  // namespace

TEST_CASE("MAGI-1: what a plan replays equals the run it was recorded from, to the last bit, for every policy") {
  const auto check = [](const TinyVideo& video, const std::string& policy) {
    INFO(policy);
    const PolicyChoice choice = video.choice(policy);
    const Output run = video.run(choice);
    const Plan plan = record(video, choice, run);
    CHECK(plan.extras == settings_of(video, choice).schedule.nearly_clean_copy);
    CHECK(plan.geometry == geometry_of(video));
    const PolicyChoice replay = replay_of(video, plan);
    const Output again = video.run(replay);
    CHECK(at::equal(run.latents, again.latents));
    CHECK(run.stats.by_chunk.size() == again.stats.by_chunk.size());
    CHECK(run.stats.total().flops == again.stats.total().flops);
    CHECK(run.stats.total().reused == again.stats.total().reused);
    CHECK(run.stats.total().predicted == again.stats.total().predicted);
    CHECK(record(video, replay, again) == plan);
  };
  TinyVideo base(false), distilled(true);
  const std::vector<std::string> whole = {"none", "causal", "teacache:base=none,ret=1,threshold=0.02", "flowcache:warmup=0,threshold=0.05"};
  for (const std::string& policy : whole) check(base, policy), check(distilled, policy);
  for (const std::string& policy : test::kSavingLatentPolicies) check(distilled, policy);
  for (const std::string& policy : test::kSavingOnBase) check(base, policy);
  check(base, "motioncache:base=none,warmup=0,chunk_steps=1,threshold=0.5,token_threshold=0.5");
  check(distilled, "motioncache:base=none,warmup=0,chunk_steps=1,threshold=0.02,token_threshold=0.03");
  check(distilled, "motioncache:warmup=0,chunk_steps=1,threshold=0.02,token_threshold=0.03,predict=on,clip=2");
  // A chunk that is given whole, and half of one.
  distilled.prefix = at::randn({4, 3, 6, 4});
  for (const char* policy : {"none", "motioncache:warmup=0,chunk_steps=2,threshold=0.02,token_threshold=0.03,floor=0.2"}) check(distilled, policy);
  distilled.parity = true;
  for (const std::string& policy : test::kSavingLatentPolicies) check(distilled, policy);
}

TEST_CASE("MAGI-1: policies that decide alike are one plan, with and without what upstream runs beside the steps") {
  const TinyVideo video(true);
  const auto plan_of = [&](const std::string& policy) {
    const PolicyChoice choice = video.choice(policy);
    Plan plan = record(video, choice, video.run(choice));
    for (PlanEntry& entry : plan.entries) entry.phase.reset(), entry.distance.reset();
    return plan;
  };
  const Plan causal = plan_of("causal"), none = plan_of("none");
  CHECK(plan_of("flowcache:threshold=0") == causal);
  CHECK(plan_of("flowcache:threshold=0,base=none") == none);
  CHECK_FALSE(none == causal);
  // One entry by hand says the same.
  for (const auto& [policy, plan] : {std::pair{"causal", by_hand(R"({"tokens": "all"})")},
                                     std::pair{"none", by_hand(R"({"tokens": "all"})", R"("base": "none", )")}})
    CHECK(at::equal(video.run(replay_of(video, plan)).latents, video.run(policy).latents));
  CHECK_FALSE(at::equal(video.run("none").latents, video.run("causal").latents));
}

TEST_CASE("MAGI-1: all columns, a list of all tokens and a fraction of one are the full path, bit for bit") {
  const bool distilled = GENERATE(false, true);
  const TinyVideo video(distilled);
  const Output causal = video.run("causal");
  const auto run = [&](const std::string& tokens) {
    return video.run(replay_of(video, by_hand(R"({"tokens": )" + tokens + R"(}, {"step": 0, "tokens": "all"})", kGeometry)));
  };
  for (const char* tokens : {R"({"columns": "0-5"})", R"({"list": "0-11"})", R"({"fraction": 1})"}) {
    INFO(tokens);
    CHECK(at::equal(run(tokens).latents, causal.latents));
  }
  for (const char* tokens : {R"({"columns": "0-2"})", R"({"list": "3-8"})", R"({"fraction": 0.5, "seed": 3})"}) {
    INFO(tokens);
    const Output half = run(tokens);
    CHECK_FALSE(at::equal(half.latents, causal.latents));
    int64_t reused = 0;
    for (const DecisionRecord& d : half.decisions) reused += d.tokens - d.recomputed;
    CHECK(reused == 5 * 7 * 6);
    CHECK(half.stats.total().recomputed + half.stats.total().reused == causal.stats.total().recomputed);
  }
}

TEST_CASE("MAGI-1: plans that a run cannot follow are refused with the reason, as mistakes of usage") {
  TinyVideo video(true);
  const auto told = [&](const Plan& plan) {
    try {
      video.run(replay_of(video, plan));
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::usage);
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(told(by_hand(R"({"tokens": "none"}, {"step": 0, "tokens": "all"})")).empty());
  CHECK(told(by_hand(R"({"tokens": "none", "rest": "predict"}, {"step": 0, "tokens": "all"})")).empty());
  CHECK_THAT(told(by_hand(R"({"tokens": "none"}, {"step": 0, "chunk": "0-2", "tokens": "all"})")),
             ContainsSubstring("does not compute all tokens in window 0, chunk 3, step 0") && ContainsSubstring("let step 0 compute"));
  CHECK_THAT(told(by_hand(R"({"tokens": "all"})", R"("attention": "window", )")), ContainsSubstring("let 'attention' be causal"));
  CHECK_THAT(told(by_hand(R"({"step": "0-6", "tokens": "all"})")), ContainsSubstring("says nothing about window 0, chunk 0, step 7"));
  CHECK_THAT(told(by_hand(R"({"chunk": "0-3", "tokens": "all"})")), ContainsSubstring("says nothing about window 0, chunk 4, step 0"));
  CHECK_THAT(told(by_hand(R"({"tokens": "all"}, {"step": 3, "tokens": {"list": "5-12"}})", kGeometry)), ContainsSubstring("names token 12"));
  const std::string other = R"("geometry": {"plane": 9, "steps": 8, "branches": 2, "windows": [{"frames": [2]}]}, )";
  CHECK_THAT(told(by_hand(R"({"tokens": "all"}, {"step": 3, "tokens": {"columns": "0"}})", other)), ContainsSubstring("9 tokens of a latent frame"));
  CHECK(told(by_hand(R"({"tokens": "all"})", other)).empty());
  const std::string steps = R"("geometry": {"plane": 6, "steps": 4, "branches": 1, "windows": [{"frames": [2]}]}, )";
  CHECK_THAT(told(by_hand(R"({"tokens": "all"})", steps)), ContainsSubstring("--steps 4"));
  // Chunks that are given whole make no decisions.
  video.prefix = at::randn({4, 2, 6, 4});
  CHECK(told(by_hand(R"({"chunk": "1-5", "tokens": "all"})")).empty());
}
