// calibrate end to end: the report, its file, and what is refused.
#include <nlohmann/json.hpp>

#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("calibrate measures the demo model and suggests thresholds that generate takes") {
  const TemporaryFolder folder;
  const auto file = folder / "calibration.json";
  const ProgramResult result = run_longtake({"calibrate", "-m", "demo", "-p", "a red circle moves up over sand", "--size", "64x64", "--frames", "33",
                                             "--steps", "8", "--seeds", "2", "--speedup", "1.2", "--speedup", "500", "-o", file});
  INFO(result.err);
  REQUIRE(result.status == 0);
  CHECK_THAT(result.out, ContainsSubstring("2 runs of 8 steps") && ContainsSubstring("fitted here") && ContainsSubstring("random order"));
  CHECK_THAT(result.out, ContainsSubstring("cannot: at most"));
  const auto json = nlohmann::json::parse(read_bytes(file));
  CHECK(json["runs"] == 2);
  CHECK(json["by_step"].size() == 7);
  CHECK(json["suggestions"].size() == 6);
  const std::string distance = json["fit"]["distance"];
  const ProgramResult used =
      run_longtake(quick_generate(folder / "a.safetensors", {"--policy", "motioncache:threshold=0.5,warmup=0,distance=" + distance}));
  INFO(used.err);
  CHECK(used.status == 0);
}

TEST_CASE("calibrate refuses what it cannot do") {
  CHECK(run_longtake({"calibrate", "-m", "demo"}).status == 2);  // no prompt
  CHECK(run_longtake({"calibrate", "-m", "demo", "-p", "x", "--speedup", "1"}).status == 2);
  CHECK(run_longtake({"calibrate", "-m", "demo", "-p", "x", "--seed", "random"}).status == 2);
  const ProgramResult steps = run_longtake({"calibrate", "-m", "demo", "-p", "x", "--size", "64x64", "--frames", "5", "--steps", "1"});
  CHECK(steps.status == 2);
  CHECK_THAT(steps.err, ContainsSubstring("--steps"));
  CHECK(run_longtake({"calibrate", "-m", "demo", "-p", "x", "-o", "/no/such/folder/c.json"}).status != 0);
}
