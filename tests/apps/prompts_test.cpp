// Prompts over time, end to end.
#include <ATen/ops/equal.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "tests/apps/conditioned.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/reader.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

// 41 frames (2.56 s) in two windows.
std::vector<std::string> long_generate(const std::vector<std::string>& prompt, const fs::path& out, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"generate", "-o", out,  "--seed", "1", "--frames", "41", "--size", "64x64", "--steps", "4", "--chunk", "2",
                                        "--set", "sampling.ar_step=1", "--set", "sampling.window=25", "--set", "sampling.overlap=9", "--preset", "ultrafast"};
  arguments.insert(arguments.end(), prompt.begin(), prompt.end());
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

const std::string kRed = "a red circle moves up over grass", kBlue = "a blue star moves down over sand";

}  // namespace

TEST_CASE("one prompt in several ranges is that prompt, and another one changes what comes after it") {
  const TemporaryFolder folder;
  const fs::path same = folder / "same.txt", other = folder / "other.txt", one = folder / "one.safetensors", out = folder / "x.safetensors";
  write_bytes(same, "0-0.8: " + kRed + "\n0.8-1.7: " + kRed + "\n1.7-: " + kRed + "\n");
  write_bytes(other, "# first red\n0-1.3s: " + kRed + "\n1.3s-: " + kBlue + "\n");
  REQUIRE(run_longtake(long_generate({"-p", kRed}, one)).status == 0);
  check_run(long_generate({"--prompts", same}, out), 0, "writing the file");
  for (const std::string name : {"frames", "latents0", "latents1"}) CHECK(at::equal(tensor_of(out, name), tensor_of(one, name)));
  check_run(long_generate({"--prompts", other}, out), 0, "writing the file");
  CHECK(at::equal(tensor_of(out, "latents0").narrow(1, 0, 4), tensor_of(one, "latents0").narrow(1, 0, 4)));
  CHECK_FALSE(at::equal(tensor_of(out, "latents1"), tensor_of(one, "latents1")));
}

TEST_CASE("the file tells its prompts, and a run of them is taken up without the list") {
  const TemporaryFolder folder;
  const fs::path list = folder / "list.txt", out = folder / "x.mp4", log = folder / "log";
  const std::string lines = "0-1.3: " + kRed + "\n1.3-: " + kBlue + "\n";
  write_bytes(list, lines);
  REQUIRE(run_longtake(long_generate({"--prompts", list}, folder / "whole.mp4")).status == 0);
  {
    RunningProgram program(long_generate({"--prompts", list}, out, {"--json-log", log}));
    while (program.running() && read_bytes(log).find("\"window\":1,\"row\":1,") == std::string::npos) {
    }
    program.send(SIGKILL);
    REQUIRE(program.wait().status == 128 + SIGKILL);
  }
  write_bytes(list, "0-1: " + kRed + "\n1-: " + kBlue + "\n");
  check_run({"generate", "--resume", "-o", out, "--prompts", list}, 2, "list.txt: prompts is '0-1: a red");
  fs::remove(list);
  check_run({"generate", "--resume", "-o", out}, 0, "writing the file");
  CHECK(at::equal(read_video(out), read_video(folder / "whole.mp4")));
  const auto about = nlohmann::json::parse(run_longtake({"inspect", out}).out)["made_with"];
  CHECK(about["prompt"] == lines);
  CHECK(about["settings"]["prompts"] == lines);
  CHECK(nlohmann::json::parse(run_longtake({"metrics", out}).out)["prompt"].dump().find("red") == std::string::npos);
}

TEST_CASE("a dry run shows which chunk takes which prompt") {
  const TemporaryFolder folder;
  write_bytes(folder / "list.txt", "0-1.3: " + kRed + "\n1.3-: " + kBlue + "\n");
  const ProgramResult run = run_longtake(long_generate({"--prompts", folder / "list.txt"}, folder / "x.mp4", {"--dry-run"}));
  INFO(run.err << run.out);
  CHECK(run.status == 0);
  CHECK_THAT(run.out, ContainsSubstring("chunks 1-3 '" + kRed + "', chunk 4 '" + kBlue + "'"));
  CHECK(folder.names().size() == 1);
}

TEST_CASE("lists come from YAML and jobs of a batch too") {
  const TemporaryFolder folder;
  write_bytes(folder / "run.yaml", "prompts: |\n  0-0.5: " + kRed + "\n  0.5-: " + kBlue + "\n");
  check_run(quick_generate(folder / "x.mp4", {"-p", "", "--config", folder / "run.yaml"}), 0, "writing the file");
  write_bytes(folder / "jobs.yaml", "- name: travel\n  prompts: |\n    0-0.5: " + kRed + "\n    0.5-: " + kBlue + "\n");
  check_run({"batch", folder / "jobs.yaml", "-o", folder / "videos", "--size", "64x64", "--steps", "2", "--frames", "17"}, 0, "");
  CHECK(fs::exists(folder / "videos" / "travel.mp4"));
}

TEST_CASE("slips with prompts over time are explained, and nothing is written") {
  const TemporaryFolder folder;
  const fs::path list = folder / "list.txt", out = folder / "never.mp4";
  write_bytes(list, "0-1: " + kRed + "\n2-3: " + kBlue + "\n");
  check_run(long_generate({"--prompts", list}, out), 2, "list.txt, line 2: the range begins at 2 s and leaves a gap behind line 1");
  write_bytes(list, "0-1: " + kRed + "\n1-3.5: " + kBlue + "\n");
  check_run(long_generate({"--prompts", list}, out), 2, "line 2: the range ends at 3.5 s, and the video at 2.56 s; write 1-: for the rest");
  check_run(long_generate({"--prompts", list, "-p", kRed}, out), 2, "exclude each other");
  check_run(long_generate({"--prompts", folder / "none.txt"}, out), 3, "none.txt");
  const std::vector<std::string> few = {"-p", kRed, "--policies", "causal", "-o", folder / "c", "--set", "prompts=0-: x"};
  std::vector<std::string> compare{"compare"};
  compare.insert(compare.end(), few.begin(), few.end());
  check_run(compare, 2, "has no prompts over time");
  CHECK(folder.names().size() == 1);
}
