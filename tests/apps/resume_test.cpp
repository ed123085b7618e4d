// Runs that are killed, interrupted or run out of disk, and what is left of them: resume, the growing video, decode, previews.
#include <ATen/ops/equal.h>

#include <signal.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "models/weights/checkpoint.h"
#include "runtime/run_folder.h"
#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/reader.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// Two windows of 6 chunks, 30 rows.
std::vector<std::string> long_run(const fs::path& out, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = quick_generate(out, {"--frames", "41", "--set", "sampling.window=25", "--set", "sampling.overlap=9",
                                                            "--steps", "6", "--set", "sampling.ar_step=2", "--set", "video.preset=ultrafast"});
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

int events_in(const fs::path& log, const std::string& event) {
  int count = 0;
  std::istringstream lines(read_bytes(log));
  for (std::string line; std::getline(lines, line);) {
    const json parsed = json::parse(line, nullptr, false);
    count += parsed.is_object() && parsed["event"] == event;
  }
  return count;
}

// Waits until the run has logged so many events of a kind, or has ended.
void wait_for(RunningProgram& program, const fs::path& log, const std::string& event, int count) {
  while (program.running() && events_in(log, event) < count) std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

// The tensors of the file, without the metadata, which names the file.
void check_same_tensors(const fs::path& a, const fs::path& b) {
  const Checkpoint one = Checkpoint::open(a), other = Checkpoint::open(b);
  REQUIRE(one.names() == other.names());
  for (const std::string& name : one.names()) CHECK(at::equal(one.tensor(name), other.tensor(name)));
}

void check_run(const std::vector<std::string>& arguments, int status, const std::string& what, const ProgramLimits& limits = {}) {
  const ProgramResult run = run_longtake(arguments, limits);
  INFO(run.err);
  CHECK(run.status == status);
  CHECK_THAT(run.err, ContainsSubstring(what));
}

}  // namespace

TEST_CASE("a run that is killed again and again ends as one that was not") {
  const TemporaryFolder folder;
  REQUIRE(run_longtake(long_run(folder / "whole.safetensors")).status == 0);
  const auto out = folder / "x.safetensors", log = folder / "log";
  for (const std::string policy : {"causal", "motioncache:slow,threshold=0.5,warmup=0,phase1=1"}) {
    REQUIRE(run_longtake(long_run(folder / "whole.safetensors", {"--policy", policy})).status == 0);
    std::vector<std::string> more = {"--policy", policy, "--json-log", log};
    int killed = 0;
    for (const int rows : {1, 9, 4, 7}) {
      fs::remove(log);
      RunningProgram program(long_run(out, more));
      wait_for(program, log, "row", rows);
      program.send(SIGKILL);
      killed += program.wait().status == 128 + SIGKILL;
      CHECK_FALSE(fs::exists(out));
      more = {"--policy", policy, "--json-log", log, "--resume"};
    }
    CHECK(killed == 4);
    const ProgramResult last = run_longtake({"generate", "--resume", "-o", out});  // everything else is in the folder
    INFO(last.err);
    REQUIRE(last.status == 0);
    check_same_tensors(out, folder / "whole.safetensors");
    CHECK_FALSE(fs::exists(out.string() + ".run"));
    fs::remove(out);
  }
}

TEST_CASE("Ctrl-C finishes the file with what there is, and the run can go on") {
  const TemporaryFolder folder;
  const auto out = folder / "x.mp4", log = folder / "log", run = folder / "x.mp4.run";
  REQUIRE(run_longtake(long_run(folder / "whole.mp4")).status == 0);
  const int signal = GENERATE(SIGINT, SIGTERM);
  RunningProgram program(long_run(out, {"--json-log", log}));
  wait_for(program, log, "playable", 1);
  // What a player finds while the run goes on.
  CHECK(read_video(run / "video.mp4").size(0) >= 8);
  program.send(signal);
  const ProgramResult stopped = program.wait();
  INFO(stopped.err);
  REQUIRE(stopped.status == 130);
  CHECK_THAT(stopped.err, ContainsSubstring("interrupted") && ContainsSubstring("of 41 frames are in") && ContainsSubstring("--resume"));
  const int64_t part = probe(out).frames;
  CHECK(part >= 8);
  CHECK(part < 41);
  const json about = json::parse(run_longtake({"inspect", out}).out);
  CHECK(about["made_with"]["part"] == json{{"frames", part}, {"of", 41}});
  CHECK(about["made_with"]["seed"] == 1);

  const ProgramResult decoded = run_longtake({"decode", run, "-o", folder / "part.safetensors"});
  INFO(decoded.err);
  CHECK(decoded.status == 0);
  CHECK_THAT(decoded.err, ContainsSubstring("not finished"));
  CHECK(Checkpoint::open(folder / "part.safetensors").info("frames").shape[0] == part);

  const ProgramResult resumed = run_longtake(long_run(out, {"--resume"}));
  INFO(resumed.err);
  REQUIRE(resumed.status == 0);
  CHECK(at::equal(read_video(out), read_video(folder / "whole.mp4")));
  const json whole = json::parse(run_longtake({"inspect", out}).out);
  CHECK_FALSE(whole["made_with"].contains("part"));
  CHECK_FALSE(fs::exists(run));
}

TEST_CASE("a second Ctrl-C ends the program at once") {
  const TemporaryFolder folder;
  const auto log = folder / "log";
  RunningProgram program(long_run(folder / "x.mp4", {"--json-log", log, "--steps", "200", "--size", "128x128"}));
  wait_for(program, log, "row", 1);
  // Two signals of one kind may arrive as one.
  program.send(SIGINT);
  program.send(SIGTERM);
  const ProgramResult ended = program.wait();
  CHECK(ended.status == 130);
  CHECK_THAT(ended.err, ContainsSubstring("stopping after this step") && !ContainsSubstring("interrupted in window"));
  CHECK_FALSE(fs::exists(folder / "x.mp4"));
}

TEST_CASE("an interruption before the first chunk leaves no video, and the run can go on") {
  const TemporaryFolder folder;
  const auto out = folder / "x.safetensors", log = folder / "log";
  RunningProgram program(long_run(out, {"--json-log", log}));
  wait_for(program, log, "row", 1);
  program.send(SIGINT);
  const ProgramResult stopped = program.wait();
  INFO(stopped.err);
  CHECK(stopped.status == 130);
  CHECK_FALSE(fs::exists(out));
  REQUIRE(run_longtake({"generate", "--resume", "-o", out}).status == 0);
  REQUIRE(run_longtake(long_run(folder / "whole.safetensors")).status == 0);
  check_same_tensors(out, folder / "whole.safetensors");
}

TEST_CASE("a full disk leaves the last good state") {
  const TemporaryFolder folder;
  const auto out = folder / "x.safetensors";
  // Chunks fit, the state within a window and the frames of the whole video do not.
  check_run(long_run(out, {"--checkpoint-budget", "0"}), 3, "--resume", {.file_bytes = 60'000});
  CHECK_FALSE(fs::exists(out));
  CHECK(fs::exists(folder / "x.safetensors.run/window_001.done"));
  REQUIRE(run_longtake({"generate", "--resume", "-o", out}).status == 0);
  REQUIRE(run_longtake(long_run(folder / "whole.safetensors")).status == 0);
  check_same_tensors(out, folder / "whole.safetensors");
  CHECK(folder.names().size() == 2);
}

TEST_CASE("a run folder is never overlooked, mixed up or thrown away by chance") {
  const TemporaryFolder folder;
  const auto out = folder / "x.safetensors", run = folder / "x.safetensors.run";
  REQUIRE(run_longtake(quick_generate(out, {"--keep-run"})).status == 0);
  REQUIRE(fs::exists(run / "run.json"));
  check_run(quick_generate(out), 2, "--overwrite-run");
  check_run(quick_generate(out, {"--resume", "--overwrite-run"}), 2, "exclude each other");
  check_run({"generate", "--resume", "-o", out}, 0, "is finished");  // it was to be kept, and is
  REQUIRE(fs::exists(run / "run.json"));
  fs::remove(run / "finished");
  check_run(quick_generate(out, {"--resume", "--steps", "5"}), 2, "sampling.steps is '5', but the run");
  check_run({"generate", "--resume", "-o", out, "--set", "sampling.shift=2"}, 2, "--set: sampling.shift is '2'");
  check_run(quick_generate(out, {"--resume", "--frames", "25"}), 2, "25 frames");
  write_bytes(run / "mine.txt", "x");
  check_run(quick_generate(out, {"--resume"}), 3, "mine.txt does not belong");
  check_run(quick_generate(out, {"--overwrite-run"}), 3, "mine.txt does not belong");
  fs::remove(run / "mine.txt");
  // What cannot matter may differ.
  check_run({"generate", "--resume", "-o", out, "--crf", "30", "--preset", "fast", "--json-log", folder / "log", "--keep-run",
             "--checkpoint-budget", "1MB"},
            0, "writing the file");
  fs::remove(run / "finished");
  const std::string latents = read_bytes(run / "chunk_000_001.safetensors");
  write_bytes(run / "chunk_000_001.safetensors", latents.substr(0, 50));
  check_run({"generate", "--resume", "-o", out}, 3, "chunk_000_001.safetensors is damaged");
  check_run({"decode", run, "-o", folder / "d.mp4"}, 3, "chunk_000_001.safetensors is damaged");
  check_run(quick_generate(out, {"--overwrite-run"}), 0, "writing the file");
  CHECK_FALSE(fs::exists(run));
  check_run(quick_generate(out, {"--resume"}), 0, "beginning a new one");

  // A plan cannot be recorded across an interruption, but the run that should have recorded one goes on.
  check_run(quick_generate(out, {"--keep-run", "--record-plan", folder / "plan.json"}), 0, "writing the file");
  REQUIRE(fs::remove(folder / "plan.json"));
  fs::remove(run / "finished");
  check_run(quick_generate(out, {"--resume", "--record-plan", folder / "plan.json"}), 2, "cannot go with --resume");
  check_run({"generate", "--resume", "-o", out}, 0, "plan.json will not be written");
  CHECK_FALSE(fs::exists(folder / "plan.json"));
}

TEST_CASE("decode makes other videos of the same latents") {
  const TemporaryFolder folder;
  const auto out = folder / "x.safetensors", run = folder / "x.safetensors.run";
  REQUIRE(run_longtake(long_run(out, {"--keep-run"})).status == 0);
  REQUIRE(run_longtake({"decode", run, "-o", folder / "again.safetensors"}).status == 0);
  check_same_tensors(out, folder / "again.safetensors");
  REQUIRE(run_longtake({"decode", run, "-o", folder / "small.mp4", "--crf", "45"}).status == 0);
  REQUIRE(run_longtake({"decode", run, "-o", folder / "large.mp4", "--crf", "5", "--decode-latents", "1"}).status == 0);
  CHECK(fs::file_size(folder / "small.mp4") < fs::file_size(folder / "large.mp4"));
  CHECK(probe(folder / "large.mp4").frames == 41);
  const json about = json::parse(run_longtake({"inspect", folder / "small.mp4"}).out);
  CHECK(about["made_with"]["settings"]["video"]["crf"] == 45);
  // The VAE's precision is as in the run, or what is asked for now.
  REQUIRE(run_longtake({"decode", run, "-o", folder / "half.safetensors", "--vae-dtype", "bf16"}).status == 0);
  CHECK_FALSE(at::equal(Checkpoint::open(out).tensor("frames"), Checkpoint::open(folder / "half.safetensors").tensor("frames")));
  check_run({"decode", folder.path(), "-o", folder / "y.mp4"}, 3, "no run.json");
  check_run({"decode", folder / "nothing", "-o", folder / "y.mp4"}, 3, "does not exist");
  check_run({"decode", run, "-o", folder / "y.avi"}, 2, ".mp4");
}

TEST_CASE("previews are written chunk by chunk") {
  const TemporaryFolder folder;
  REQUIRE(run_longtake(long_run(folder / "x.mp4", {"--keep-run", "--preview", "latent"})).status == 0);
  int pictures = 0;
  for (const auto& entry : fs::directory_iterator(folder / "x.mp4.run")) {
    if (entry.path().extension() != ".png") continue;
    ++pictures;
    CHECK(read_bytes(entry.path()).substr(1, 3) == "PNG");
  }
  CHECK(pictures == 7);  // four chunks, and three behind the prefix of the second window
}

TEST_CASE("a folder that takes no files is refused before anything is computed") {
  const TemporaryFolder folder;
  write_bytes(folder / "x.mp4.run", "a file where the run folder should be");
  const ProgramResult run = run_longtake(quick_generate(folder / "x.mp4", {"--resume"}));
  INFO(run.err);
  CHECK(run.status == 3);
  CHECK_THAT(run.err, ContainsSubstring("x.mp4.run is not a folder") && !ContainsSubstring("row"));
}
