// longtake vbench, end to end: a small export with the demo model, held against VBench's own rules.
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/video_io/vbench_rules.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

const fs::path kData = fs::path(LONGTAKE_SOURCE_DIR) / "tests/data/vbench";

std::vector<std::string> quick_plan(const fs::path& out, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"vbench", "plan", "--info", kData / "info.json", "-o", out, "--frames", "5", "--size", "32x32", "--steps", "1",
                                        "--chunk", "1", "--set", "sampling.ar_step=1", "--fps", "8"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace

TEST_CASE("an export is planned, made by shards, checked, and found by VBench's rules") {
  const TemporaryFolder root;
  const fs::path out = root / "vbench";
  const ProgramResult planned = run_longtake(quick_plan(out, {"--long-prompts", kData / "longer.txt", "--seed", "5", "--dimensions", "imaging_quality,scene"}));
  INFO(planned.err);
  REQUIRE(planned.status == 0);
  CHECK_THAT(planned.out, ContainsSubstring("20 videos of 5 frames") && ContainsSubstring("crf 12") && ContainsSubstring("time: unknown"));
  CHECK_THAT(run_longtake(quick_plan(root / "other", {"--seconds-per-video", "360"})).out, ContainsSubstring("6.5 GPU-hours in all"));

  const ProgramResult unfinished = run_longtake({"vbench", "check", out});
  CHECK(unfinished.status == 3);
  CHECK_THAT(unfinished.err, ContainsSubstring("no videos yet"));
  REQUIRE(run_longtake({"vbench", "run", out, "--shard", "1/2"}).status == 0);
  const ProgramResult half = run_longtake({"vbench", "check", out});
  CHECK(half.status == 1);
  CHECK_THAT(half.out, ContainsSubstring("error: missing video (10)") && ContainsSubstring("not ready"));
  CHECK_THAT(run_longtake({"batch", "status", out}).out, ContainsSubstring("10 of 20 videos done, 0 failed, 10 missing"));
  const ProgramResult rest = run_longtake({"vbench", "run", out});
  INFO(rest.err);
  REQUIRE(rest.status == 0);
  CHECK_THAT(rest.out, ContainsSubstring("10 made, 10 were done"));

  const json info = json::parse(read_bytes(kData / "info.json"));
  CHECK(rules::count_videos(out / "videos") == 20);
  CHECK(rules::standard_match(info, out / "videos/overall_consistency", "imaging_quality").missing.empty());
  CHECK(rules::standard_match(info, out / "videos/overall_consistency", "imaging_quality").found.size() == 15);
  CHECK(rules::standard_match(info, out / "videos/scene", "background_consistency").found.size() == 5);
  CHECK_FALSE(fs::exists(out / "tmp"));
  for (const auto& entry : fs::recursive_directory_iterator(out / "videos"))
    if (entry.is_regular_file()) CHECK(entry.path().extension() == ".mp4");

  const ProgramResult checked = run_longtake({"vbench", "check", out});
  INFO(checked.out);
  CHECK(checked.status == 0);
  const json report = json::parse(run_longtake({"vbench", "check", out, "--json"}).out);
  CHECK(report["ready"] == true);
  CHECK(report["found"] == 20);
  // Another program's folder: the same, told what to expect.
  const ProgramResult as_long = run_longtake({"vbench", "check", out, "--long"});
  CHECK(as_long.status == 1);
  CHECK_THAT(as_long.out, ContainsSubstring("videos of 0.62 s belong to VBench (less than 5 s)"));
  fs::rename(out / "meta", root / "meta");
  CHECK(run_longtake({"vbench", "check", out / "videos", "--info", kData / "info.json", "--suites", "scene,overall_consistency"}).status == 0);
  CHECK_THAT(run_longtake({"vbench", "check", out / "videos"}).err, ContainsSubstring("--info"));
  fs::rename(root / "meta", out / "meta");

  std::set<std::string> seeds, digests;
  std::istringstream manifest(read_bytes(out / "meta/manifest.jsonl"));
  int lines = 0;
  for (std::string line; std::getline(manifest, line); ++lines) {
    const json record = json::parse(line);
    seeds.insert(record["seed"].dump());
    digests.insert(record["sha256"]);
    CHECK(record["seed"] == 5 + 1000003 * record["line"].get<int>() + record["index"].get<int>());
    CHECK(record["prompt_list"] == "longer.txt");
    CHECK(record["prompt"] != record["vbench_prompt"]);
    CHECK(record["settings"]["video"]["crf"] == 12);
  }
  CHECK(lines == 20);
  CHECK(seeds.size() == 20);
  CHECK(digests.size() == 20);
  const json made = json::parse(run_longtake({"inspect", out / "videos/scene/meadow-0.mp4"}).out);
  CHECK(made["made_with"]["prompt"] == "a meadow in summer with tall grass that does not move at all in the heat");
  CHECK(made["video"]["fps"] == 8);

  CHECK_THAT(run_longtake(quick_plan(out, {"--long-prompts", kData / "longer.txt", "--seed", "5", "--dimensions", "imaging_quality,scene"})).out,
             ContainsSubstring("done: 20, left: 0") && ContainsSubstring("measured here"));
  CHECK_THAT(run_longtake(quick_plan(out)).err, ContainsSubstring("holds another plan"));

  // A file beside the videos, a changed video, and a plan that was changed by hand.
  write_bytes(out / "videos/scene/notes.txt", "x");
  write_bytes(out / "videos/scene/meadow-1.mp4", read_bytes(out / "videos/scene/meadow-0.mp4"));
  const ProgramResult spoilt = run_longtake({"vbench", "check", out});
  CHECK(spoilt.status == 1);
  CHECK_THAT(spoilt.out, ContainsSubstring("other file") && ContainsSubstring("same video") && ContainsSubstring("changed"));
  CHECK_THAT(run_longtake({"vbench", "run", out}).err, ContainsSubstring("--remake"));
  fs::remove(out / "videos/scene/notes.txt");
  CHECK(run_longtake({"vbench", "run", out, "--remake"}).status == 0);
  CHECK(run_longtake({"vbench", "check", out}).status == 0);
}

TEST_CASE("a flat export holds shared prompts once") {
  const TemporaryFolder root;
  const fs::path out = root / "flat";
  REQUIRE(run_longtake(quick_plan(out, {"--layout", "flat", "--samples", "1", "--suites", "appearance_style,overall_consistency"})).status == 0);
  REQUIRE(run_longtake({"vbench", "run", out}).status == 0);
  CHECK(rules::count_videos(out / "videos") == 3);
  const ProgramResult checked = run_longtake({"vbench", "check", out});
  INFO(checked.out);
  CHECK(checked.status == 0);
  const ProgramResult script = run_longtake({"vbench", "script", out});
  CHECK(script.status == 0);
  CHECK_THAT(script.out, ContainsSubstring("--videos_path \"$VIDEOS\" --dimension appearance_style") && ContainsSubstring("VIDEOS='" + out.string()));
}

TEST_CASE("long videos are planned for VBench-Long") {
  const TemporaryFolder root;
  const fs::path out = root / "long";
  const ProgramResult planned = run_longtake(quick_plan(out, {"--frames", "41"}));
  REQUIRE(planned.status == 0);
  CHECK_THAT(planned.out, ContainsSubstring("VBench-Long"));
  const ProgramResult script = run_longtake({"vbench", "script", out});
  CHECK_THAT(script.out, ContainsSubstring("long_vbench_standard") && ContainsSubstring("evaluate dynamic_degree subject_consistency"));
  CHECK_THAT(run_longtake(quick_plan(root / "x", {"--frames", "41", "--layout", "flat"})).err, ContainsSubstring("--layout suite"));
  CHECK_THAT(run_longtake(quick_plan(root / "x", {"--frames", "41", "--protocol", "short"})).err, ContainsSubstring("belong to VBench-Long"));
  CHECK_THAT(run_longtake(quick_plan(root / "x", {"--crf", "20"})).err, ContainsSubstring("crf 20"));
  CHECK_FALSE(fs::exists(root / "x"));
}

TEST_CASE("scores are computed and compared, and missing dimensions make exit code 6") {
  const TemporaryFolder root;
  write_bytes(root / "a_eval_results.json", R"({"color": [0.9, []], "scene": [0.5, []]})");
  const ProgramResult run = run_longtake({"vbench", "score", root.path()});
  CHECK(run.status == 6);
  CHECK_THAT(run.out, ContainsSubstring("90.00") && ContainsSubstring("60.81") && ContainsSubstring("not counted as 0"));
  CHECK_THAT(run.err, ContainsSubstring("14 of 16 dimensions are missing"));
  const json scores = json::parse(run_longtake({"vbench", "score", root / "a_eval_results.json", "--json"}).out);
  CHECK(scores["dimensions"]["color"]["score"] == 0.9);
  CHECK(scores["total"].is_null());
  CHECK(run_longtake({"vbench", "score", root / "none"}).status == 3);
}

TEST_CASE("slips of vbench are explained") {
  CHECK_THAT(run_longtake({"vbench"}).err, ContainsSubstring("a verb is missing, for example plan"));
  CHECK_THAT(run_longtake({"vbench", "chek"}).err, ContainsSubstring("did you mean 'check'"));
  const TemporaryFolder root;
  CHECK_THAT(run_longtake({"vbench", "plan", "-o", root / "x"}).err, ContainsSubstring("--info"));
  CHECK_THAT(run_longtake({"vbench", "run", root.path()}).err, ContainsSubstring("meta/plan.yaml"));
  CHECK_THAT(run_longtake({"vbench", "script", root.path()}).err, ContainsSubstring("--protocol short or long"));
  CHECK_THAT(run_longtake(quick_plan(root / "x", {"--suites", "scenes"})).err, ContainsSubstring("did you mean 'scene'"));
  CHECK(run_longtake({"vbench", "plan", "--info", root / "none.json", "-o", root / "x"}).status == 3);
}
