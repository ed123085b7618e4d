// MAGI-1 models in the verbs that make many videos: batch, vbench, compare; and calibrate, which has nothing to fit.
#include <nlohmann/json.hpp>

#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/models/magi_folder.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/digest.h"
#include "video_io/png.h"
#include "video_io/reader.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

ProgramResult run(std::vector<std::string> arguments, int status = 0) {
  ProgramResult result = run_longtake(arguments);
  INFO(result.err << result.out);
  CHECK(result.status == status);
  return result;
}

json json_of(const fs::path& file) { return json::parse(read_bytes(file)); }

}  // namespace

TEST_CASE("a batch makes videos of MAGI-1 models, beside those of others") {
  const TemporaryFolder root;
  const test::MagiFolder model(/*distilled=*/true);
  const fs::path list = root / "jobs.yaml", out = root / "videos";
  write_png(root / "p.png", smooth_clip(1, 32, 48)[0]);
  const auto write_jobs = [&](const std::string& policy) {
    write_bytes(list, fmt::format("- {{name: text, model: {0}, prompt: a red circle, policy: {1}, video: {{crf: 0}}}}\n"
                                  "- {{name: picture, model: {0}, prompt: a blue square, conditioning: {{image: {2}}}}}\n"
                                  "- {{name: other, model: demo, prompt: a star, video: {{frames: 5, size: 32x32}}, sampling: {{steps: 2, chunk: 1, ar_step: 1}}}}\n",
                                  model.path().string(), policy, (root / "p.png").string()));
  };
  write_jobs("none");
  const std::vector<std::string> batch = {"batch", list, "-o", out, "--dtype", "fp32", "--device", "cpu"};
  CHECK_THAT(run(batch).out, ContainsSubstring("3 made, 0 were done, 0 failed"));
  const json record = json_of(out / "meta/records/text.json");
  CHECK(record["frames"] == 16);
  CHECK(record["settings"]["sampling"].contains("key_chunks"));
  CHECK_FALSE(record["settings"]["sampling"].contains("shift"));
  CHECK(record["memory"]["peak_bytes"] > 0);
  CHECK(record["flops"] > 0);
  CHECK(record["sha256"] == sha256_of_file(out / "text.mp4"));
  CHECK(json_of(out / "meta/records/picture.json")["inputs"].contains("conditioning.image"));
  // The same as generate makes.
  run({"generate", "-m", model.path(), "-p", "a red circle", "-o", root / "x.mp4", "--seed", fmt::format("{}", record["seed"].get<uint64_t>()), "--dtype",
       "fp32", "--device", "cpu", "--crf", "0"});
  CHECK(at::equal(read_video(root / "x.mp4"), read_video(out / "text.mp4")));

  CHECK_THAT(run(batch).out, ContainsSubstring("0 made, 3 were done"));
  std::vector<std::string> otherwise = batch;
  otherwise.insert(otherwise.end(), {"--key-chunks", "2"});
  CHECK_THAT(run(otherwise, 2).err, ContainsSubstring("--key-chunks: sampling.key_chunks has no effect on demo"));
  write_jobs("flowcache");
  CHECK_THAT(run(batch, 2).err, ContainsSubstring("text.mp4 (policy none, now flowcache"));
  write_bytes(list, fmt::format("- {{name: text, model: {}, prompt: a red circle, sampling: {{shift: 3}}}}\n", model.path().string()));
  CHECK_THAT(run(batch, 2).err, ContainsSubstring("sampling.shift has no effect"));
  write_bytes(list, fmt::format("- {{name: text, model: {}, prompt: a red circle, policy: predict}}\n", model.path().string()));
  CHECK_THAT(run(batch, 2).err, ContainsSubstring("jobs.yaml line 1") && ContainsSubstring("predict"));
}

TEST_CASE("an export for VBench is made by a MAGI-1 model") {
  const TemporaryFolder root;
  const test::MagiFolder model(/*distilled=*/true);
  const fs::path out = root / "vbench", info = fs::path(LONGTAKE_SOURCE_DIR) / "tests/data/vbench/info.json";
  const std::vector<std::string> plan = {"vbench", "plan", "--info", info, "-o", out, "-m", model.path(), "--dtype", "fp32", "--dimensions", "scene", "--samples", "1"};
  CHECK_THAT(run(plan).out, ContainsSubstring("1 videos of 16 frames, 32x48, 24 fps"));
  std::vector<std::string> shifted = plan;
  shifted.insert(shifted.end(), {"--shift", "3", "--replace"});
  CHECK_THAT(run(shifted, 2).err, ContainsSubstring("sampling.shift has no effect"));
  CHECK_THAT(read_bytes(out / "meta/plan.yaml"), ContainsSubstring("family: magi-1") && !ContainsSubstring("ar_step"));
  CHECK_THAT(run({"vbench", "run", out, "--device", "cpu"}).out, ContainsSubstring("1 made, 0 were done"));
  run({"vbench", "check", out});
  // A plan says for which family it is.
  std::string text = read_bytes(out / "meta/plan.yaml");
  text.replace(text.find("magi-1"), 6, "magi-2");
  write_bytes(out / "meta/plan.yaml", text);
  CHECK_THAT(run({"vbench", "run", out}, 2).err, ContainsSubstring("unknown family 'magi-2'"));
}

TEST_CASE("policies of MAGI-1 are compared on the same noise") {
  const TemporaryFolder root;
  const test::MagiFolder model(/*distilled=*/true);
  const fs::path out = root / "comparison";
  const std::vector<std::string> compare = {"compare", "-m", model.path(), "-p", "a red circle moves up over grass", "--frames", "24", "--dtype", "fp32",
                                            "--device", "cpu", "--policies", "motioncache:threshold=1000,token_threshold=1000,warmup=1;causal@key_chunks=2"};
  std::vector<std::string> planned = compare;
  planned.push_back("--dry-run");
  CHECK_THAT(run(planned).out, ContainsSubstring("4 policies x 1 prompts x 1 seeds = 4 runs and a warm-up, 24 frames of 48x32 in 1 window"));
  std::vector<std::string> whole = compare;
  whole.insert(whole.end(), {"-o", out});
  const ProgramResult result = run(whole);
  CHECK_THAT(result.out, ContainsSubstring("dB to causal") && ContainsSubstring("motioncache"));
  const json results = json_of(out / "results.json");
  REQUIRE(results["runs"].size() == 4);
  CHECK(results["options"]["sampling"].contains("in_flight"));
  CHECK_FALSE(results["options"]["sampling"].contains("shift"));
  CHECK(results["repeatable"] == true);
  const std::string report = read_bytes(out / "report.html");
  CHECK_THAT(report, ContainsSubstring("nearly clean copies") && !ContainsSubstring("see the whole window"));
  CHECK_THAT(read_bytes(out / "results.csv"), ContainsSubstring("causal@key_chunks=2"));
  for (const json& clip : results["runs"]) {
    CHECK(probe(out / clip["video"].get<std::string>()).frames == 24);
    CHECK(clip["flops"] > 0);
    if (clip.contains("seams")) CHECK(clip["seams"]["chunks"].size() == 2);
  }
  const test::MagiFolder base(/*distilled=*/false);
  CHECK_THAT(run({"compare", "-m", base.path(), "-p", "x", "--policies", "causal@shift=3", "-o", root / "b"}, 2).err,
             ContainsSubstring("sampling.shift has no effect"));
}

TEST_CASE("MAGI-1 models have nothing to calibrate, and that is said") {
  const test::MagiFolder model(/*distilled=*/true);
  CHECK_THAT(run({"calibrate", "-m", model.path(), "-p", "x"}, 2).err, ContainsSubstring("has nothing to fit"));
}
