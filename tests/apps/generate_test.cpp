// longtake generate, end to end with the demo model: what it writes, says and repeats.
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "models/weights/checkpoint.h"
#include "runtime/options.h"
#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/reader.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

namespace {

at::Tensor raw_frames(const std::filesystem::path& file) { return Checkpoint::open(file).tensor("frames"); }

}  // namespace

TEST_CASE("generate writes an mp4 that says how it was made") {
  const TemporaryFolder folder;
  const auto video = folder / "out.mp4", log = folder / "log.jsonl";
  const ProgramResult run = run_longtake(quick_generate(video, {"--json-log", log}));
  INFO(run.err);
  REQUIRE(run.status == 0);
  CHECK(folder.names().size() == 2);
  CHECK_THAT(run.out, ContainsSubstring("recomputed") && ContainsSubstring("FLOPs saved") && ContainsSubstring(video.string()));
  CHECK_THAT(run.err, ContainsSubstring("chunk") && ContainsSubstring("ETA") && ContainsSubstring("mem"));

  const ProgramResult inspected = run_longtake({"inspect", video});
  REQUIRE(inspected.status == 0);
  const json info = json::parse(inspected.out);
  CHECK(info["video"]["codec"] == "h264");
  CHECK(info["video"]["pixel_format"] == "yuv420p");
  CHECK(info["video"]["colours"] == "bt709");
  CHECK(info["video"]["frames"] == 17);
  CHECK(info["video"]["fps"] == 16);
  CHECK(info["made_with"]["prompt"] == "a red circle moves up over grass");
  CHECK(info["made_with"]["seed"] == 1);
  CHECK(info["made_with"]["settings"]["sampling"]["steps"] == 4);
  CHECK(info["made_with"]["version"].is_string());

  std::set<std::string> events;
  std::istringstream lines(read_bytes(log));
  for (std::string line; std::getline(lines, line);) events.insert(json::parse(line)["event"]);
  CHECK(events == std::set<std::string>{"start", "window", "row", "playable", "done"});
}

TEST_CASE("a seed repeats a video to the last bit, and without one each video is another") {
  const TemporaryFolder folder;
  for (const std::string name : {"a", "b"}) REQUIRE(run_longtake(quick_generate(folder / (name + ".safetensors"))).status == 0);
  CHECK(at::equal(raw_frames(folder / "a.safetensors"), raw_frames(folder / "b.safetensors")));
  REQUIRE(run_longtake(quick_generate(folder / "c.safetensors", {"--seed", "random"})).status == 0);
  CHECK_FALSE(at::equal(raw_frames(folder / "a.safetensors"), raw_frames(folder / "c.safetensors")));
}

TEST_CASE("motioncache that never reuses is causal, to the last bit") {
  const TemporaryFolder folder;
  const auto frames = [&](const std::string& policy) {
    const auto file = folder / "x.safetensors";
    REQUIRE(run_longtake(quick_generate(file, {"--policy", policy})).status == 0);
    return raw_frames(file);
  };
  const at::Tensor causal = frames("causal");
  CHECK(at::equal(causal, frames("motioncache:threshold=0")));
  CHECK_FALSE(at::equal(causal, frames("motioncache:threshold=1,warmup=0,phase1=0")));
  CHECK_FALSE(at::equal(causal, frames("none")));
}

TEST_CASE("every option changes what it says it changes") {
  // key -> a value other than the quick run's; the video's pixels or, for those in `elsewhere`, something else differs.
  const std::vector<std::pair<std::string, std::string>> pixels = {
      {"prompt", "a blue square"},   {"negative", "grass"},         {"seed", "2"},           {"policy", "none"},
      {"video.size", "64x80"},       {"video.frames", "9"},
      {"sampling.steps", "5"},       {"sampling.guidance", "2"},    {"sampling.shift", "3"}, {"sampling.window", "9"},
      {"sampling.chunk", "1"},       {"sampling.ar_step", "0"},     {"run.dtype", "bf16"},      {"run.vae_dtype", "bf16"},
      {"sampling.kv", "r1kv:budget=0.5"}};
  const std::set<std::string> elsewhere = {
      "model", "out", "run.dry_run", "run.json_log", "video.duration",  // tests of their own
      "parity",                                          // below
      "plan", "run.record_plan",                         // plan_test.cpp
      "prompts",                                         // prompts_test.cpp
      "conditioning.image", "conditioning.end_image",    // conditioning_test.cpp
      "conditioning.video", "conditioning.add", "conditioning.context", "conditioning.only_new",  // extend_test.cpp
      "video.fps", "video.crf", "video.preset",         // below: the encoded file
      "sampling.overlap", "sampling.addnoise", "sampling.history",  // below: need a second window
      "sampling.in_flight", "sampling.key_chunks", "sampling.clean_key_chunks", "sampling.prev_guidance",
      "sampling.special_tokens",                          // tests/runtime/magi_engine_test.cpp
      "run.precision",                                    // errors_test.cpp here, quant tests on a GPU
      "run.device", "run.threads", "run.decode_latents",  // must not change the video; below
      "run.resume", "run.overwrite_run", "run.keep_run", "run.checkpoint_budget", "run.preview",  // resume_test.cpp
      "run.text_cache",                                  // text_cache_test.cpp
      "run.offload", "run.memory_budget"                 // memory_test.cpp
  };
  std::set<std::string> covered = elsewhere;
  for (const auto& [key, value] : pixels) covered.insert(key);
  for (const OptionInfo& info : option_schema()) {
    INFO(info.key << " has no test here");
    CHECK(covered.contains(info.key));
  }

  const TemporaryFolder folder;
  const auto run = [&](const std::vector<std::string>& more, const std::string& name = "x.safetensors") {
    const ProgramResult result = run_longtake(quick_generate(folder / name, more));
    INFO(result.err);
    REQUIRE(result.status == 0);
  };
  const auto frames_of = [&](const std::vector<std::string>& more) {
    run(more);
    return raw_frames(folder / "x.safetensors");
  };
  const at::Tensor usual = frames_of({});
  for (const auto& [key, value] : pixels) {
    INFO(key << "=" << value);
    std::vector<std::string> more = {"--set", key + "=" + value};
    const std::string flag = find_option(key)->flag();
    const auto quick = quick_generate("x");
    if (std::find(quick.begin(), quick.end(), flag) != quick.end() || key == "prompt") more = {flag, value};  // the last one counts
    if (key == "sampling.window") more.insert(more.end(), {"--set", "sampling.overlap=5"});
    CHECK_FALSE(at::equal(usual, frames_of(more)));
  }

  const std::vector<std::string> windows = {"--frames", "25", "--set", "sampling.window=17", "--set", "sampling.overlap=9"};
  const auto with = [&](const std::string& assignment) {
    auto more = windows;
    more.insert(more.end(), {"--set", assignment});
    return frames_of(more);
  };
  const at::Tensor sliding = frames_of(windows);
  for (const std::string assignment : {"sampling.addnoise=200", "sampling.history=reencode"}) {
    INFO(assignment);
    CHECK_FALSE(at::equal(sliding, with(assignment)));
  }
  CHECK_FALSE(at::equal(frames_of({"--frames", "29", "--set", "sampling.window=17", "--set", "sampling.overlap=5"}),
                        frames_of({"--frames", "29", "--set", "sampling.window=17", "--set", "sampling.overlap=13"})));

  for (const auto& more : std::vector<std::vector<std::string>>{{"--set", "run.decode_latents=1"}, {"--device", "cpu"}})
    CHECK((usual.to(at::kInt) - frames_of(more).to(at::kInt)).abs().max().item<int>() <= 1);

  const std::vector<std::string> parity = {"--chunk", "1", "--set", "sampling.window=17", "--set", "sampling.overlap=9"};
  for (const std::string reference : {"skyreels-ref", "motioncache-ref"}) {
    auto more = parity;
    more.insert(more.end(), {"--parity", reference});
    if (reference == "skyreels-ref") more.insert(more.end(), {"--policy", "none"});
    CHECK_FALSE(at::equal(frames_of(parity), frames_of(more)));
  }

  const auto size_of = [&](const std::vector<std::string>& more) {
    run(more, "x.mp4");
    return std::filesystem::file_size(folder / "x.mp4");
  };
  CHECK(size_of({"--set", "video.crf=40"}) < size_of({"--set", "video.crf=5"}));
  CHECK(size_of({"--set", "video.preset=ultrafast"}) != size_of({"--set", "video.preset=slower"}));
  run({"--fps", "8"}, "x.mp4");
  CHECK(probe(folder / "x.mp4").fps == 8);
}

TEST_CASE("a length in seconds becomes the nearest that fits") {
  const TemporaryFolder folder;
  const auto file = folder / "x.mp4";
  const ProgramResult run = run_longtake({"generate", "-p", "a red circle", "-o", file, "--duration", "1", "--steps", "2", "--size", "64x64",
                                          "--chunk", "1", "--set", "sampling.window=17", "--set", "sampling.overlap=5"});
  INFO(run.err);
  REQUIRE(run.status == 0);
  CHECK(probe(file).frames == 17);
  CHECK_THAT(run.err, ContainsSubstring("17"));
  CHECK(run_longtake(quick_generate(file, {"--duration", "1"})).status == 2);  // --frames and --duration contradict each other
}

TEST_CASE("long videos slide the window, and their length is exact") {
  const TemporaryFolder folder;
  for (const std::string history : {"reencode", "carry"}) {
    const auto file = folder / "long.mp4";
    const ProgramResult run = run_longtake(quick_generate(file, {"--frames", "41", "--set", "sampling.window=17", "--set",
                                                                 "sampling.overlap=9", "--set", "sampling.history=" + history}));
    INFO(run.err);
    REQUIRE(run.status == 0);
    CHECK(probe(file).frames == 41);
  }
}

TEST_CASE("a dry run prints the plan and leaves nothing") {
  const TemporaryFolder folder;
  const ProgramResult run = run_longtake(quick_generate(folder / "out.mp4", {"--dry-run"}));
  REQUIRE(run.status == 0);
  CHECK(folder.names().empty());
  CHECK_THAT(run.out, ContainsSubstring("window 1") && ContainsSubstring("chunks") && ContainsSubstring("rows") &&
                          ContainsSubstring("FLOP") && ContainsSubstring("peak memory:") && ContainsSubstring("decisions by step"));
  const ProgramResult big = run_longtake({"generate", "-m", "skyreels-v2-df-1.3b-540p", "--dry-run"});
  INFO(big.err);
  CHECK(big.status == 0);
  CHECK_THAT(big.out, ContainsSubstring("no files"));
}

TEST_CASE("printed options read back as themselves") {
  const TemporaryFolder folder;
  const auto arguments = quick_generate(folder / "out.mp4", {"--print-config", "--policy", "motioncache:fast,floor=0.5"});
  const ProgramResult first = run_longtake(arguments);
  REQUIRE(first.status == 0);
  write_bytes(folder / "config.yaml", first.out);
  const ProgramResult second = run_longtake({"generate", "--config", folder / "config.yaml", "--print-config"});
  REQUIRE(second.status == 0);
  const auto values = [](const std::string& yaml) {  // without the comments that tell where a value comes from
    std::string out;
    std::istringstream lines(yaml);
    for (std::string line; std::getline(lines, line);) out += line.substr(0, line.find(" #")) + "\n";
    return out;
  };
  CHECK(values(first.out) == values(second.out));
}
