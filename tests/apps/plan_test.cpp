// Plans end to end: recorded, replayed, shown, refused.
#include <ATen/ops/equal.h>

#include "models/weights/checkpoint.h"
#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

at::Tensor raw_frames(const std::filesystem::path& file) { return Checkpoint::open(file).tensor("frames"); }

}  // namespace

TEST_CASE("a recorded plan replays to the same video, and can be looked at") {
  const TemporaryFolder folder;
  const auto plan = folder / "plan.json", a = folder / "a.safetensors", b = folder / "b.safetensors";
  const ProgramResult recorded =
      run_longtake(quick_generate(a, {"--policy", "predict:threshold=1,warmup=1,phase1=0,limit=1", "--record-plan", plan}));
  INFO(recorded.err);
  REQUIRE(recorded.status == 0);
  CHECK_THAT(recorded.out, ContainsSubstring("predicted"));
  const ProgramResult replayed = run_longtake(quick_generate(b, {"--plan", plan}));
  INFO(replayed.err);
  REQUIRE(replayed.status == 0);
  CHECK(at::equal(raw_frames(a), raw_frames(b)));

  const ProgramResult shown = run_longtake({"plan", "show", plan, "--ascii"});
  REQUIRE(shown.status == 0);
  CHECK_THAT(shown.out, ContainsSubstring("predict") && ContainsSubstring("w1   c1") && ContainsSubstring("##") && ContainsSubstring("recomputed: "));
  std::istringstream lines(shown.out);
  for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 80);
  const ProgramResult picture = run_longtake({"plan", "show", plan, "-o", folder / "plan.png"});
  INFO(picture.err);
  CHECK(picture.status == 0);
  CHECK(read_bytes(folder / "plan.png").substr(1, 3) == "PNG");
  CHECK(run_longtake({"plan", "show", plan, "-o", folder / "plan.gif"}).status == 2);

  const auto refused = [&](const std::vector<std::string>& more, const std::string& what) {
    const ProgramResult run = run_longtake(quick_generate(folder / "never.safetensors", more));
    INFO(run.err);
    CHECK(run.status == 2);
    CHECK_THAT(run.err, ContainsSubstring(what));
  };
  refused({"--plan", plan, "--steps", "5"}, "--steps 4");
  refused({"--plan", plan, "--policy", "causal"}, "exclude each other");
  CHECK_FALSE(std::filesystem::exists(folder / "never.safetensors"));
}

TEST_CASE("plans that cannot be read or written are refused before anything is computed") {
  const TemporaryFolder folder;
  write_bytes(folder / "bad.json", R"({"longtake_plan": 1, "decisions": [{"tokens": "some"}]})");
  for (const auto& arguments : {quick_generate(folder / "x.safetensors", {"--plan", folder / "bad.json"}),
                                quick_generate(folder / "x.safetensors", {"--plan", folder / "absent.json"}),
                                quick_generate(folder / "x.safetensors", {"--record-plan", folder / "no/such/plan.json"}),
                                std::vector<std::string>{"plan", "show", folder / "bad.json"}}) {
    const ProgramResult run = run_longtake(arguments);
    INFO(run.err);
    CHECK(run.status == 3);
    CHECK_THAT(run.err, !ContainsSubstring("step 1"));
  }
  CHECK(folder.names() == std::vector<std::string>{"bad.json"});
}

TEST_CASE("a plan by hand runs in a dry run and for real") {
  const TemporaryFolder folder;
  write_bytes(folder / "hand.json", R"({"longtake_plan": 1, "decisions": [
      {"tokens": "none"}, {"step": "0-1", "tokens": "all"}, {"step": 3, "tokens": {"fraction": 0.7, "seed": 3}}]})");
  const ProgramResult dry = run_longtake(quick_generate(folder / "x.safetensors", {"--plan", folder / "hand.json", "--dry-run"}));
  INFO(dry.err);
  CHECK(dry.status == 0);
  CHECK_THAT(dry.out, ContainsSubstring("FFRT"));
  CHECK(run_longtake(quick_generate(folder / "x.safetensors", {"--plan", folder / "hand.json"})).status == 0);
  CHECK_THAT(run_longtake({"plan", "show", folder / "hand.json", "--ascii"}).out, ContainsSubstring("##.%"));
}
