#include "cache/plan.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>

#include <filesystem>

#include "base/error.h"
#include "cache/plan_replay.h"
#include "cache/plan_text.h"
#include "tests/catch.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

Plan parse(const std::string& text) { return parse_plan(text, "p.json"); }

std::string with_decisions(const std::string& decisions, const std::string& more = "") {
  return R"({"longtake_plan": 1, )" + more + R"("decisions": [)" + decisions + "]}";
}

const std::string kGeometry = R"("geometry": {"plane": 24, "steps": 10, "branches": 2, "windows": [{"frames": [5, 5, 3]}, {"frames": [5, 5], "prefix": 1}]}, )";

at::Tensor longs(std::vector<int64_t> values) { return at::tensor(values, at::kLong); }

PlanGeometry run_like(int windows, int steps = 10, int64_t plane = 24) {
  PlanGeometry g{.plane = plane, .steps = steps, .branches = 2};
  for (int w = 0; w < windows; ++w) g.windows.push_back({{5, 5}, w == 0 ? 0 : 1});
  return g;
}

}  // namespace

TEST_CASE("a plan by hand: general entries first, exceptions after them") {
  const Plan plan = parse(with_decisions(R"(
      {"tokens": "none"},
      {"step": "0-4", "tokens": "all"},
      {"step": "6-8/2", "tokens": {"fraction": 0.5, "seed": 3}},
      {"step": 8, "chunk": 1, "branch": 1, "tokens": "none", "rest": "predict", "clip": 2.5},
      {"step": "9", "tokens": "all", "phase": "token", "distance": 0.25})"));
  CHECK(plan.attention == AttentionScheme::causal);
  CHECK(plan.find(3, 2, 4, 0)->tokens.kind == PlanTokens::Kind::all);
  CHECK(plan.find(0, 0, 5, 0)->tokens.kind == PlanTokens::Kind::none);
  CHECK(plan.find(0, 0, 6, 0)->tokens.kind == PlanTokens::Kind::fraction);
  CHECK(plan.find(0, 0, 7, 0)->tokens.kind == PlanTokens::Kind::none);
  CHECK(plan.find(0, 1, 8, 0)->tokens.kind == PlanTokens::Kind::fraction);
  CHECK(plan.find(0, 1, 8, 1)->rest == Rest::predict);
  CHECK(plan.find(0, 1, 8, 1)->clip == 2.5);
  CHECK(plan.find(0, 1, 9, 1)->phase == Phase::token);
  CHECK(plan.find(0, 1, 9, 1)->distance == 0.25);
  check_plan(plan, run_like(3), "p.json");

  PlanReplay replay(plan, 2);
  CHECK(replay.preview(10) == "FFFFFRTRTF");
  CHECK(replay.residuals() == 2);
  const auto d = replay.decide({.chunk = 1, .step = 8, .steps = 10, .frames = 5, .plane = 24});
  CHECK(d[0].tokens.count(5, 24) == 60);
  CHECK(d[0].phase == Phase::token);
  CHECK(d[1].tokens.is_none());
  CHECK(d[1].rest == Rest::predict);
  CHECK(replay.decide({.step = 3, .steps = 10, .frames = 5, .plane = 24, .prefix = true})[0].tokens.is_all());
}

TEST_CASE("a plan says which of MAGI-1's baselines it saves steps of, and keeps that when it is written") {
  CHECK_FALSE(parse(with_decisions(R"({"tokens": "all"})")).extras);
  CHECK_FALSE(parse(with_decisions(R"({"tokens": "all"})", R"("base": "causal", )")).extras);
  const Plan plan = parse(with_decisions(R"({"tokens": "all"})", R"("base": "none", )"));
  CHECK(plan.extras);
  CHECK(parse(plan_text(plan)) == plan);
  CHECK_THROWS_WITH(parse(with_decisions(R"({"tokens": "all"})", R"("base": "window", )")),
                    ContainsSubstring("p.json: base: expected one of causal, none"));
}

TEST_CASE("fractions are the same columns everywhere, and other ones in another step") {
  PlanTokens tokens{.kind = PlanTokens::Kind::fraction, .fraction = 0.3, .seed = 3};
  const TokenSet set = tokens.set(0, 1, 2, 20);
  CHECK(set.kind() == TokenSet::Kind::columns);
  CHECK(at::equal(set.index(), longs({6, 9, 11, 12, 16, 19})));  // written down once: part of what a seed means
  CHECK_FALSE(at::equal(set.index(), tokens.set(0, 1, 3, 20).index()));
  CHECK_FALSE(at::equal(set.index(), tokens.set(0, 2, 2, 20).index()));
  CHECK_FALSE(at::equal(set.index(), tokens.set(1, 1, 2, 20).index()));
  tokens.seed = 4;
  CHECK_FALSE(at::equal(set.index(), tokens.set(0, 1, 2, 20).index()));
  for (const auto& [fraction, count] : std::vector<std::pair<double, int64_t>>{{0, 0}, {0.02, 0}, {0.025, 1}, {0.7, 14}, {0.99, 20}, {1, 20}}) {
    tokens.fraction = fraction;
    const TokenSet s = tokens.set(0, 0, 0, 20);
    CHECK(s.count(1, 20) == count);
    CHECK(s.is_none() == (count == 0));
    CHECK(s.is_all() == (count == 20));
  }
  // Each column is as likely as any other.
  std::vector<int> hits(20, 0);
  tokens.fraction = 0.5;
  for (int step = 0; step < 400; ++step) {
    const at::Tensor chosen = tokens.set(0, 0, step, 20).index();
    for (int64_t i = 0; i < chosen.numel(); ++i) ++hits[static_cast<size_t>(chosen[i].item<int64_t>())];
  }
  for (const int n : hits) CHECK(std::abs(n - 200) < 50);  // five standard deviations
}

TEST_CASE("plans come back from their text as they were") {
  PlanRecorder recorder(AttentionScheme::window, "by \"hand\" \xc3\xa9");
  for (int w = 0; w < 2; ++w)
    for (int c = 0; c < 3; ++c)
      for (int s = 0; s < 10; ++s)
        for (int b = 0; b < 2; ++b) {
          const StepContext context{w, c, s, 10, c == 2 ? 3 : 5, 24};
          const bool prefix = w == 1 && c == 0;
          if (prefix && s > 0) continue;
          Decision d{.rest = c == 1 ? Rest::predict : Rest::reuse, .clip = c == 1 ? 1.25 : 1, .distance = 0.1 * s / 3};
          if (s == 3) d.tokens = TokenSet::none();
          if (s == 4) d.tokens = TokenSet::columns(longs({0, 1, 2, 7, 23}));
          if (s == 5) d.tokens = TokenSet::list(b == 0 ? longs({0, 30, 31}) : longs({71}));
          if (s >= 3) d.phase = s < 5 ? Phase::chunk : Phase::token;
          recorder.add(context, b, !prefix, d);
        }
  const Plan plan = recorder.plan();
  CHECK(plan.entries.size() == 5 * (9 + 2));  // branches that agree share an entry
  REQUIRE(plan.geometry);
  CHECK((plan.geometry->windows == std::vector<PlanGeometry::Window>{{{5, 5, 3}, 0}, {{5, 5, 3}, 1}}));
  CHECK(plan.geometry->branches == 2);
  const std::string text = plan_text(plan);
  CHECK(parse(text) == plan);
  CHECK(std::count(text.begin(), text.end(), '\n') == 6 + 55 + 2);
  check_plan(plan, *plan.geometry, "p.json");

  const std::filesystem::path file = std::filesystem::temp_directory_path() / "longtake-plan-test.json";
  write_plan(file, plan);
  CHECK(read_plan(file) == plan);
  std::filesystem::remove(file);
  CHECK_THROWS_WITH(read_plan(file), ContainsSubstring("no file"));
  CHECK_THROWS_WITH(write_plan("/no/such/folder/p.json", plan), ContainsSubstring("folder"));
  CHECK_THROWS_WITH(write_plan(std::filesystem::temp_directory_path(), plan), ContainsSubstring("it is a folder"));
}

TEST_CASE("what is no plan is refused with the field that is wrong") {
  const auto refused = [](const std::string& text, const std::string& what) {
    INFO(text);
    CHECK_THROWS_WITH(parse(text), ContainsSubstring("p.json") && ContainsSubstring(what));
  };
  refused("", "not JSON");
  refused("[]", "not a JSON object");
  refused("{\"longtake_plan\": 1,\n \"decisions\": [\n{\"tokens\": \"all\"},, ]}", "line 3");
  refused(std::string(200, '[') + std::string(200, ']'), "nests deeper");
  refused(R"({"longtake_plan": 1, "longtake_plan": 1})", "twice");
  refused(R"({"decisions": [{"tokens": "all"}]})", "'longtake_plan' is missing");
  refused(R"({"longtake_plan": 2, "decisions": 7})", "version 1, found 2");
  refused(R"({"longtake_plan": 1})", "'decisions' is missing");
  refused(R"({"longtake_plan": 1, "decisions": []})", "not empty");
  refused(with_decisions(R"({"tokens": "all"})", R"("atention": "causal", )"), "did you mean 'attention'");
  refused(with_decisions(R"({"tokens": "all"})", R"("attention": "full", )"), "attention: expected one of causal, window");
  refused(with_decisions(R"({"tokens": "all"}, {"step": 1})"), "decisions[1]: the field 'tokens' is missing");
  refused(with_decisions(R"({"tokens": "al"})"), "decisions[0].tokens: expected one of none, all");
  refused(with_decisions(R"({"tokens": {}})"), "decisions[0].tokens: expected \"none\", \"all\"");
  refused(with_decisions(R"({"tokens": {"fraction": 0.5, "columns": "1"}})"), "one of columns, list");
  refused(with_decisions(R"({"tokens": {"fraction": 1.5}})"), "from 0 to 1");
  refused(with_decisions(R"({"tokens": {"fraction": 0.5, "seed": -1}})"), "seed: expected a whole number");
  refused(with_decisions(R"({"tokens": {"columns": "1"}})"), "geometry");
  refused(with_decisions(R"({"tokens": "all", "stp": 1})"), "did you mean 'step'");
  for (const char* step : {"-1", "1000", "1.5", "true", "\"\"", "\"a\"", "\"3-1\"", "\"1-2/0\"", "\"1-2/\"", "\"1-\"", "\"1-2x\"", "\"-2-3\"", "[1]",
                           "\"99999999999999999999\"", "18446744073709551615"})
    refused(with_decisions(R"({"tokens": "all", "step": )" + std::string(step) + "}"), "decisions[0].step");
  for (const char* columns : {"", "24", "0-24", "3,2", "1,1", "0-3,3", "5-4", "1,", ",1", "1;2", "-1", "99999999999999999999", "0x1"})
    refused(with_decisions(R"({"tokens": {"columns": ")" + std::string(columns) + "\"}}", kGeometry), "decisions[0].tokens.columns");
  refused(with_decisions(R"({"tokens": "all", "rest": "guess"})"), "reuse, predict");
  refused(with_decisions(R"({"tokens": "all", "clip": -1})"), "clip: expected a number from 0");
  refused(with_decisions(R"({"tokens": "all", "phase": "last"})"), "full, chunk, token");
  refused(with_decisions(R"({"tokens": "all", "distance": "far"})"), "distance: expected a number");
  for (const char* g : {R"({"plane": 0, "steps": 1, "branches": 1, "windows": [{"frames": [1]}]})", R"({"plane": 1, "steps": 1, "branches": 1, "windows": []})",
                        R"({"plane": 1, "steps": 1, "branches": 9, "windows": [{"frames": [1]}]})", R"({"plane": 1, "steps": 1, "branches": 1, "windows": [{"frames": [0]}]})",
                        R"({"plane": 1, "steps": 1, "branches": 1, "windows": [{"frames": [1], "prefix": 2}]})", R"({"steps": 1})", "3"})
    refused(with_decisions(R"({"tokens": "all"})", R"("geometry": )" + std::string(g) + ", "), "geometry");
}

TEST_CASE("hostile plans stay small: positions are not unrolled, pictures are bounded") {
  const std::string huge = R"("geometry": {"plane": 1048576, "steps": 1000, "branches": 8, "windows": [{"frames": [4096]}]}, )";
  const Plan plan = parse(with_decisions(R"({"tokens": {"list": "0-4294967295"}}, {"window": "0-65535", "chunk": "0-4095", "tokens": "none"})", huge));
  CHECK(plan.entries[0].tokens.ranges.size() == 1);
  CHECK(plan_grid(plan).rows.size() == 1);
  CHECK_THROWS_WITH(plan_grid(parse(with_decisions(R"({"window": "0-65535", "chunk": "0-4095", "tokens": "none"})"))), ContainsSubstring("cannot be drawn"));
  CHECK_THROWS_WITH(plan_grid(parse(with_decisions(R"({"window": "0-65535", "step": "0-999", "tokens": "none"})"))), ContainsSubstring("cannot be drawn"));
}

TEST_CASE("a plan is replayed where it fits, and refused with the reason elsewhere") {
  const auto refused = [](const Plan& plan, const PlanGeometry& run, const std::string& what) {
    INFO(what);
    CHECK_THROWS_WITH(check_plan(plan, run, "p.json"), ContainsSubstring("p.json") && ContainsSubstring(what));
  };
  const std::string columns = R"({"tokens": {"columns": "0-3"}}, {"step": 0, "tokens": "all"})";
  const Plan recorded = parse(with_decisions(columns, kGeometry));
  check_plan(recorded, run_like(2), "p.json");
  check_plan(recorded, run_like(1), "p.json");
  refused(recorded, run_like(1, 11), "--steps 10");
  refused(recorded, run_like(1, 10, 20), "24 tokens of a latent frame and this run's frames have 20");
  const Plan listed = parse(with_decisions(R"({"tokens": {"list": "0-3,110"}}, {"step": 0, "tokens": "all"})", kGeometry));
  check_plan(listed, run_like(1), "p.json");
  PlanGeometry shorter = run_like(1);
  shorter.windows[0].frames = {5, 4};
  refused(listed, shorter, "token 110 in window 0, chunk 1, step 1");
  refused(parse(with_decisions(R"({"window": 0, "tokens": "all"})")), run_like(2), "window 1, chunk 1, step 0");
  refused(parse(with_decisions(R"({"branch": 0, "tokens": "all"})")), run_like(1), "nothing about");
  refused(parse(with_decisions(R"({"tokens": {"fraction": 0.5}})")), run_like(1), "let step 0 compute");
  // With full attention, a later chunk has run before its first step, unless all begin together.
  const Plan late = parse(R"({"longtake_plan": 1, "attention": "window", "decisions": [{"tokens": "all"}, {"chunk": 1, "step": 0, "tokens": "none"}]})");
  PlanGeometry together = run_like(1);
  check_plan(late, together, "p.json");
  together.together = true;
  refused(late, together, "does not compute all tokens in window 0, chunk 1, step 0");
  const Plan fractions = parse(with_decisions(R"({"tokens": {"fraction": 0.5}}, {"step": 0, "tokens": "all"})"));
  check_plan(fractions, run_like(7, 30, 2040), "p.json");
}
