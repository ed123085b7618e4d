// longtake batch, end to end with the demo model.
#include <sys/file.h>
#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/digest.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> quick_batch(const fs::path& list, const fs::path& out, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"batch", list, "-o", out, "--frames", "5", "--size", "32x32", "--steps", "2", "--chunk", "1", "--set", "sampling.ar_step=1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::set<std::string> videos_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file()) names.insert(entry.path().filename());
  return names;
}

json record_of(const fs::path& folder, const std::string& name) { return json::parse(read_bytes(folder / "meta/records" / (name + ".json"))); }

}  // namespace

TEST_CASE("a batch makes every video once, and only what is missing when it is started again") {
  const TemporaryFolder root;
  const fs::path list = root / "prompts.txt", out = root / "videos";
  write_bytes(list, "a red circle\r\n../../a blue square\n\nа красный круг\n");
  const ProgramResult first = run_longtake(quick_batch(list, out));
  INFO(first.err);
  REQUIRE(first.status == 0);
  CHECK_THAT(first.out, ContainsSubstring("3 made, 0 were done, 0 failed"));
  CHECK_THAT(first.err, ContainsSubstring("2/3 a_blue_square"));
  CHECK(videos_in(out) == std::set<std::string>{"a_red_circle.mp4", "a_blue_square.mp4", "а_красный_круг.mp4"});
  CHECK_FALSE(fs::exists(out / "tmp"));
  CHECK(root.names().size() == 2);  // nothing outside the folder
  const json record = record_of(out, "a_red_circle");
  CHECK(record["prompt"] == "a red circle");
  CHECK(record["sha256"] == sha256_of_file(out / "a_red_circle.mp4"));
  CHECK(record["settings"]["sampling"]["steps"] == 2);
  CHECK(record["bytes"] == fs::file_size(out / "a_red_circle.mp4"));

  // The same video as generate makes from these settings.
  const json inspected = json::parse(run_longtake({"inspect", out / "a_red_circle.mp4"}).out);
  CHECK(inspected["made_with"]["seed"] == record["seed"]);
  CHECK(inspected["made_with"]["settings"]["out"] == "a_red_circle.mp4");

  const auto before = fs::last_write_time(out / "a_red_circle.mp4");
  fs::remove(out / "a_blue_square.mp4");
  const ProgramResult second = run_longtake(quick_batch(list, out));
  CHECK_THAT(second.out, ContainsSubstring("1 made, 2 were done, 0 failed"));
  CHECK(fs::last_write_time(out / "a_red_circle.mp4") == before);
  CHECK(record_of(out, "a_red_circle") == record);
  const ProgramResult third = run_longtake(quick_batch(list, out));
  CHECK_THAT(third.out, ContainsSubstring("0 made, 3 were done"));
  CHECK(third.err.find("loading the model") == std::string::npos);

  // Another list: what stays the same is not made again.
  write_bytes(list, "a green ring\na red circle\n");
  CHECK_THAT(run_longtake(quick_batch(list, out)).out, ContainsSubstring("1 made, 1 were done"));
  CHECK(fs::last_write_time(out / "a_red_circle.mp4") == before);

  // Other settings, a changed file, a file of someone else: refused, with the reason, until --remake.
  const ProgramResult other = run_longtake(quick_batch(list, out, {"--steps", "3"}));
  CHECK(other.status == 2);
  CHECK_THAT(other.err, ContainsSubstring("sampling.steps 2, now 3") && ContainsSubstring("--remake"));
  write_bytes(out / "a_red_circle.mp4", "changed");
  CHECK_THAT(run_longtake(quick_batch(list, out)).err, ContainsSubstring("a_red_circle.mp4 (the file has changed since it was made)"));
  fs::remove(out / "meta/records/a_green_ring.json");
  const ProgramResult foreign = run_longtake(quick_batch(list, out));
  CHECK(foreign.status == 2);
  CHECK_THAT(foreign.err, ContainsSubstring("no record tells how it was made"));
  CHECK(read_bytes(out / "a_red_circle.mp4") == "changed");
  CHECK_THAT(run_longtake(quick_batch(list, out, {"--remake"})).out, ContainsSubstring("2 made"));
  CHECK(sha256_of_file(out / "a_red_circle.mp4") == record["sha256"]);  // the same to the last bit
}

TEST_CASE("shards share a batch, and status adds up what they did") {
  const TemporaryFolder root;
  const fs::path list = root / "jobs.yaml", out = root / "out";
  write_bytes(list,
              "- {prompt: a red circle, name: one}\n"
              "- {prompt: a blue square, sampling: {steps: 3}}\n"
              "- {prompt: a green ring, seed: 9, video: {size: 32x48}}\n");
  REQUIRE(run_longtake({"batch", list, "-o", out, "--shard", "2/2", "--frames", "5", "--set", "sampling.ar_step=1"}).status == 0);
  CHECK(videos_in(out) == std::set<std::string>{"a_blue_square.mp4"});
  const ProgramResult part = run_longtake({"batch", "status", out});
  CHECK(part.status == 6);
  CHECK_THAT(part.out, ContainsSubstring("1 of 3 videos done, 0 failed, 2 missing") && ContainsSubstring("missing: one"));
  const json summary = json::parse(run_longtake({"batch", "status", out, "--json"}).out);
  CHECK(summary["done"] == json{"a_blue_square"});
  CHECK(summary["missing"] == json({"one", "a_green_ring"}));
  CHECK(summary["seconds"] > 0);

  CHECK_THAT(run_longtake({"batch", list, "-o", out, "--shard", "1/2", "--frames", "5", "--steps", "2", "--size", "32x32", "--set", "sampling.ar_step=1", "--limit", "1"}).out,
             ContainsSubstring("1 made"));
  REQUIRE(run_longtake({"batch", list, "-o", out, "--shard", "1/2", "--frames", "5", "--steps", "2", "--size", "32x32", "--set", "sampling.ar_step=1"}).status == 0);
  CHECK(run_longtake({"batch", "status", out}).status == 0);
  CHECK(record_of(out, "a_green_ring")["seed"] == 9);
  CHECK(record_of(out, "a_green_ring")["settings"]["video"]["size"] == "32x32");  // flags win
  CHECK(record_of(out, "a_green_ring")["shard"] == "1/2");
  std::istringstream manifest(read_bytes(out / "meta/manifest.jsonl"));
  std::vector<std::string> names;
  for (std::string line; std::getline(manifest, line);) names.push_back(json::parse(line)["name"]);
  CHECK(names == std::vector<std::string>{"one", "a_blue_square", "a_green_ring"});
}

TEST_CASE("one failure does not stop the others, is listed, and is tried again") {
  const TemporaryFolder root;
  const fs::path list = root / "jobs.yaml", out = root / "out", model = root / "broken";
  // Weights that are no numbers: the run finds non-finite values and stops.
  fs::copy(fs::path(LONGTAKE_SOURCE_DIR) / "share/models/demo", model, fs::copy_options::recursive);
  fs::path weights;
  for (const auto& entry : fs::directory_iterator(model / "transformer"))
    if (entry.path().extension() == ".safetensors") weights = entry.path();
  const std::string good = read_bytes(weights);
  std::string bad = good;
  std::fill(bad.end() - static_cast<std::ptrdiff_t>(bad.size() / 2), bad.end(), '\xff');
  write_bytes(weights, bad);
  write_bytes(list, "- {prompt: a, model: " + model.string() + "}\n- {prompt: b}\n");
  const ProgramResult run = run_longtake(quick_batch(list, out, {"-m", "demo", "--dry-run"}));  // flags win: both with the demo
  REQUIRE(run.status == 0);
  CHECK_THAT(run.out, ContainsSubstring("2 videos to make, 0 done"));
  CHECK_FALSE(fs::exists(out));

  const ProgramResult failed = run_longtake(quick_batch(list, out));
  INFO(failed.err);
  CHECK(failed.status == 6);
  CHECK_THAT(failed.err, ContainsSubstring("1 of 2 videos failed: a") && ContainsSubstring("meta/failed"));
  CHECK_THAT(failed.out, ContainsSubstring("1 made, 0 were done, 1 failed"));
  CHECK(videos_in(out) == std::set<std::string>{"b.mp4"});
  const json failure = json::parse(read_bytes(out / "meta/failed/a.json"));
  CHECK_FALSE(failure["error"].get<std::string>().empty());
  const ProgramResult status = run_longtake({"batch", "status", out});
  CHECK(status.status == 6);
  CHECK_THAT(status.out, ContainsSubstring("1 of 2 videos done, 1 failed, 0 missing") && ContainsSubstring("failed: a: "));

  write_bytes(weights, good);
  CHECK_THAT(run_longtake(quick_batch(list, out)).out, ContainsSubstring("1 made, 1 were done"));
  CHECK_FALSE(fs::exists(out / "meta/failed/a.json"));
  CHECK(run_longtake({"batch", "status", out}).status == 0);
}

TEST_CASE("a picture of one job that cannot be read does not stop the others") {
  const TemporaryFolder root;
  const fs::path list = root / "jobs.yaml", out = root / "out", gone = root / "gone.png", broken = root / "broken.png";
  write_bytes(broken, "no picture");
  write_bytes(list, fmt::format("- {{name: gone, prompt: a, conditioning: {{image: {}}}}}\n- {{name: broken, prompt: b, conditioning: {{image: {}}}}}\n"
                                "- {{name: whole, prompt: c}}\n", gone.string(), broken.string()));
  for (int again = 0; again < 2; ++again) {
    const ProgramResult run = run_longtake(quick_batch(list, out));
    INFO(run.err);
    CHECK(run.status == 6);
    CHECK_THAT(run.err, ContainsSubstring("2 of ") && ContainsSubstring("failed: gone, broken"));
    CHECK(videos_in(out) == std::set<std::string>{"whole.mp4"});
  }
  const json failure = json::parse(read_bytes(out / "meta/failed/broken.json"));
  CHECK(failure["exit_code"] == 3);
  CHECK_THAT(failure["error"].get<std::string>(), ContainsSubstring("broken.png"));
}

TEST_CASE("a batch that is killed leaves nothing half made, and goes on") {
  const TemporaryFolder root;
  const fs::path list = root / "p.txt", out = root / "out";
  write_bytes(list, "a\nb\n");
  // What a killed run leaves: its workplace, with a video in the making, and a record whose video never came.
  fs::create_directories(out / "tmp/shard-1-of-1");
  write_bytes(out / "tmp/shard-1-of-1/lock", "");
  write_bytes(out / "tmp/shard-1-of-1/video.mp4.part-1234", "half");
  fs::create_directories(out / "meta/records");
  write_bytes(out / "meta/records/a.json", "{}");
  CHECK_THAT(run_longtake(quick_batch(list, out)).out, ContainsSubstring("2 made"));
  CHECK(videos_in(out) == std::set<std::string>{"a.mp4", "b.mp4"});
  CHECK_FALSE(fs::exists(out / "tmp"));
}

TEST_CASE("two runs of one shard do not work side by side") {
  const TemporaryFolder root;
  const fs::path list = root / "p.txt", out = root / "out";
  write_bytes(list, "a\n");
  fs::create_directories(out / "tmp/shard-1-of-1");
  const int lock = open((out / "tmp/shard-1-of-1/lock").c_str(), O_CREAT | O_RDWR, 0600);
  REQUIRE(flock(lock, LOCK_EX) == 0);
  const ProgramResult refused = run_longtake(quick_batch(list, out));
  CHECK(refused.status == 2);
  CHECK_THAT(refused.err, ContainsSubstring("another process works on shard 1/1"));
  close(lock);
}

TEST_CASE("slips of a batch are explained before anything is loaded or written") {
  const TemporaryFolder root;
  const fs::path list = root / "p.txt", out = root / "out";
  write_bytes(list, "a\n");
  const auto refused = [&](const std::vector<std::string>& arguments, int status, const std::string& what) {
    const ProgramResult run = run_longtake(arguments);
    INFO(run.err);
    CHECK(run.status == status);
    CHECK_THAT(run.err, ContainsSubstring(what));
    CHECK_FALSE(fs::exists(out));
  };
  refused({"batch"}, 2, "there is no list");
  refused({"batch", list}, 2, "there is no output folder");
  refused({"batch", root / "none.txt", "-o", out}, 3, "none.txt");
  refused({"batch", list, "-o", out, "--shard", "3/2"}, 2, "--shard must be I/N");
  refused({"batch", list, "-o", out, "--shrad", "1/2"}, 2, "did you mean '--shard'");
  refused({"batch", list, "-o", out, "--seed", "random"}, 2, "must be a number");
  refused({"batch", list, "-o", out, "--frames", "18"}, 2, "p.txt line 1");
  refused({"batch", list, "-o", out, "--set", "prompt=b"}, 2, "prompts come from the list");
  refused({"batch", list, "-o", out, "-m", "dmo"}, 2, "did you mean 'demo'");
  refused({"batch", "status", out}, 3, "no folder of a batch");
  write_bytes(root / "j.yaml", "- prompt: a\n  stepz: 3\n");
  refused({"batch", root / "j.yaml", "-o", out}, 2, "j.yaml line 2: unknown key 'stepz'");
  refused({"batch", list, "-o", "/proc/none"}, 3, "/proc/none");
}
