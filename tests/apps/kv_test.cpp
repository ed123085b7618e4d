// K/V compression end to end.
#include <ATen/ops/equal.h>

#include "models/weights/checkpoint.h"
#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("K/V compression runs with every causal policy and is refused where nothing is ever finished") {
  const TemporaryFolder folder;
  const auto out = folder / "x.safetensors";
  for (const std::string policy : {"causal", "motioncache:slow", "teacache:base=causal"}) {
    const ProgramResult run = run_longtake(quick_generate(out, {"--policy", policy, "--kv", "merge:d=0.2"}));
    INFO(run.err);
    CHECK(run.status == 0);
    CHECK_THAT(run.out, ContainsSubstring("K/V held") && ContainsSubstring("without compression"));
  }
  std::filesystem::remove(out);
  for (const std::string policy : {"none", "teacache"}) {
    const ProgramResult run = run_longtake(quick_generate(out, {"--policy", policy, "--kv", "stream:1"}));
    CHECK(run.status == 2);
    CHECK_THAT(run.err, ContainsSubstring("full attention"));
  }
  const ProgramResult slip = run_longtake(quick_generate(out, {"--kv", "r1vk"}));
  CHECK(slip.status == 2);
  CHECK_THAT(slip.err, ContainsSubstring("did you mean 'r1kv'"));
  CHECK(folder.names().empty());
}

TEST_CASE("a dry run counts what compression keeps") {
  const auto memory = [](const std::string& kv) {
    const ProgramResult run = run_longtake({"generate", "-m", "skyreels-v2-df-1.3b-540p", "--dry-run", "--steps", "10", "--policy", "causal", "--kv", kv});
    REQUIRE(run.status == 0);
    const size_t at = run.out.find("K/V ");
    return run.out.substr(at, run.out.find(',', at) - at);
  };
  CHECK(memory("stream:100") == memory("full"));
  CHECK(memory("stream:0") != memory("full"));
  CHECK(memory("r1kv:budget=0.5") != memory("full"));
}
