// MAGI-1 runs that are killed and interrupted, and what is left of them: resume, the growing video, decode, previews.
#include <ATen/ops/equal.h>

#include <signal.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "models/weights/checkpoint.h"
#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/models/magi_folder.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/png.h"
#include "video_io/reader.h"
#include "video_io/writer.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// 8 chunks of 8 frames, 44 rows.
std::vector<std::string> long_run(const test::MagiFolder& model, const fs::path& out, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"generate", "-m", model.path(), "-p", "a red circle over grass", "-o", out, "--seed", "1", "--dtype", "fp32",
                                        "--device", "cpu", "--frames", "64", "--steps", "16", "--set", "video.preset=ultrafast"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::vector<std::string> short_run(const test::MagiFolder& model, const fs::path& out, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"generate", "-m", model.path(), "-p", "x", "-o", out, "--seed", "1", "--dtype", "fp32", "--device", "cpu"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// Waits until the run has logged so many events of a kind, or has ended.
void wait_for(RunningProgram& program, const fs::path& log, const std::string& event, int count) {
  const auto seen = [&] {
    int seen = 0;
    std::istringstream lines(read_bytes(log));
    for (std::string line; std::getline(lines, line);) {
      const json parsed = json::parse(line, nullptr, false);
      seen += parsed.is_object() && parsed["event"] == event;
    }
    return seen;
  };
  while (program.running() && seen() < count) std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

// The tensors of the file, without the metadata, which names the file.
void check_same_tensors(const fs::path& a, const fs::path& b) {
  const Checkpoint one = Checkpoint::open(a), other = Checkpoint::open(b);
  REQUIRE(one.names() == other.names());
  for (const std::string& name : one.names()) CHECK(at::equal(one.tensor(name), other.tensor(name)));
}

std::string check_run(const std::vector<std::string>& arguments, int status, const std::string& what = "") {
  const ProgramResult run = run_longtake(arguments);
  INFO(run.err);
  CHECK(run.status == status);
  CHECK_THAT(run.err, ContainsSubstring(what));
  return run.err;
}

// Kills the run at these rows, and resumes it each time and to the end.
void check_kills(std::vector<std::string> arguments, const std::string& verb, const fs::path& out, const fs::path& log, const std::vector<int>& rows) {
  int killed = 0;
  arguments.insert(arguments.end(), {"--json-log", log});
  for (const int count : rows) {
    fs::remove(log);
    RunningProgram program(arguments);
    wait_for(program, log, "row", count);
    program.send(SIGKILL);
    killed += program.wait().status == 128 + SIGKILL;
    CHECK_FALSE(fs::exists(out));
    if (count == rows.front()) arguments.push_back("--resume");
  }
  CHECK(killed == static_cast<int>(rows.size()));
  check_run({verb, "--resume", "-o", out}, 0);  // everything else is in the folder
  CHECK_FALSE(fs::exists(out.string() + ".run"));
}

}  // namespace

TEST_CASE("a MAGI-1 run that is killed again and again ends as one that was not") {
  const TemporaryFolder folder;
  const test::MagiFolder model(/*distilled=*/true);
  const auto out = folder / "x.safetensors", log = folder / "log", whole = folder / "whole.safetensors";
  for (const std::string policy : {"none", "motioncache:threshold=0.05,token_threshold=0.05,warmup=1"}) {
    check_run(long_run(model, whole, {"--policy", policy}), 0);
    check_kills(long_run(model, out, {"--policy", policy}), "generate", out, log, {1, 15, 9});
    check_same_tensors(out, whole);
    fs::remove(out);
  }
}

TEST_CASE("a MAGI-1 run that goes on from a video survives a kill too") {
  const TemporaryFolder folder;
  const test::MagiFolder model(/*distilled=*/true);
  VideoWriter writer({.path = folder / "clip.mp4", .width = 64, .height = 48, .fps = 24, .crf = 10});
  writer.push(smooth_clip(20, 48, 64));
  writer.finish();
  const auto extend = [&](const fs::path& out) {
    return std::vector<std::string>{"extend", folder / "clip.mp4", "-m", model.path(), "-p", "x", "-o", out, "--add", "2", "--seed", "1", "--dtype", "fp32",
                                    "--device", "cpu", "--steps", "16", "--set", "video.preset=ultrafast"};
  };
  check_run(extend(folder / "whole.mp4"), 0);
  check_kills(extend(folder / "x.mp4"), "extend", folder / "x.mp4", folder / "log", {18, 5});
  CHECK(at::equal(read_video(folder / "x.mp4"), read_video(folder / "whole.mp4")));
}

TEST_CASE("MAGI-1: Ctrl-C finishes the file with what there is, and the run can go on") {
  const TemporaryFolder folder;
  const test::MagiFolder model(/*distilled=*/true);
  const auto out = folder / "x.mp4", log = folder / "log", run = folder / "x.mp4.run";
  check_run(long_run(model, folder / "whole.mp4"), 0);
  RunningProgram program(long_run(model, out, {"--json-log", log}));
  wait_for(program, log, "playable", 1);
  const int64_t growing = read_video(run / "video.mp4").size(0);
  CHECK(growing >= 8);
  program.send(SIGINT);
  const ProgramResult stopped = program.wait();
  INFO(stopped.err);
  REQUIRE(stopped.status == 130);
  CHECK_THAT(stopped.err, ContainsSubstring("frames can be played") && ContainsSubstring("of 8 chunks finished") &&
                              ContainsSubstring("of 64 frames are in") && ContainsSubstring("--resume"));
  const int64_t part = probe(out).frames;
  CHECK(part >= growing);
  CHECK(part < 64);
  CHECK(json::parse(run_longtake({"inspect", out}).out)["made_with"]["part"] == json{{"frames", part}, {"of", 64}});
  // decode sees the same.
  CHECK_THAT(check_run({"decode", run, "-o", folder / "part.safetensors"}, 0), ContainsSubstring("not finished"));
  CHECK(Checkpoint::open(folder / "part.safetensors").info("frames").shape[0] == part);
  check_run({"generate", "--resume", "-o", out}, 0);
  CHECK(at::equal(read_video(out), read_video(folder / "whole.mp4")));
  CHECK_FALSE(json::parse(run_longtake({"inspect", out}).out)["made_with"].contains("part"));
  CHECK_FALSE(fs::exists(run));
}

TEST_CASE("a MAGI-1 run folder is never overlooked, mixed up or thrown away by chance") {
  const TemporaryFolder folder;
  const test::MagiFolder model(/*distilled=*/true), base(/*distilled=*/false);
  const auto out = folder / "x.safetensors", run = folder / "x.safetensors.run";
  check_run(short_run(model, out, {"--keep-run"}), 0);
  REQUIRE(fs::exists(run / "run.json"));
  check_run(short_run(model, out), 2, "--overwrite-run");
  check_run({"generate", "--resume", "-o", out}, 0, "is finished");
  fs::remove(run / "finished");
  check_run(short_run(model, out, {"--resume", "--steps", "4"}), 2, "sampling.steps is '4', but the run");
  check_run(short_run(model, out, {"--resume", "--frames", "24"}), 2, "24 frames");
  check_run(short_run(base, out, {"--resume"}), 2, "model is '");
  check_run({"generate", "--resume", "-o", out, "--key-chunks", "2"}, 2, "sampling.key_chunks is '2'");
  check_run({"generate", "--resume", "-o", out, "--shift", "2"}, 2, "sampling.shift has no effect");
  // A part of the model that other families do not have.
  const fs::path rows = model.path() / "special_tokens.npz";
  const std::string bytes = read_bytes(rows);
  write_bytes(rows, bytes.substr(0, bytes.size() - 1) + "x");
  check_run({"generate", "--resume", "-o", out}, 3, "special_tokens is another file");
  write_bytes(rows, bytes);
  // What cannot matter may differ.
  check_run({"generate", "--resume", "-o", out, "--crf", "30", "--json-log", folder / "log", "--keep-run", "--checkpoint-budget", "1MB"}, 0,
            "writing the file");
  check_run({"decode", run, "-o", folder / "again.safetensors"}, 0);
  check_same_tensors(out, folder / "again.safetensors");
  fs::remove(run / "finished");
  write_bytes(run / "chunk_000_001.safetensors", read_bytes(run / "chunk_000_001.safetensors").substr(0, 50));
  check_run({"generate", "--resume", "-o", out}, 3, "chunk_000_001.safetensors is damaged");
  check_run(short_run(model, out, {"--overwrite-run"}), 0, "writing the file");
  CHECK_FALSE(fs::exists(run));
}

TEST_CASE("MAGI-1 previews are written chunk by chunk") {
  const TemporaryFolder folder;
  const test::MagiFolder model(/*distilled=*/true);
  write_png(folder / "p.png", smooth_clip(1, 32, 48)[0]);
  check_run(short_run(model, folder / "x.mp4", {"--keep-run", "--preview", "latent", "--image", folder / "p.png"}), 0);
  int pictures = 0;
  for (const auto& entry : fs::directory_iterator(folder / "x.mp4.run")) pictures += entry.path().extension() == ".png";
  CHECK(pictures == 2);
  // The picture is a file that the run depends on.
  fs::remove(folder / "x.mp4.run/finished");
  write_png(folder / "p.png", smooth_clip(2, 32, 48)[1]);
  check_run({"generate", "--resume", "-o", folder / "x.mp4"}, 3, "--image");
}
