// longtake bench, end to end on tiny sizes.
#include <nlohmann/json.hpp>
#include <set>

#include "tests/apps/program.h"
#include "tests/catch.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<std::string> tiny_bench(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"bench",    "generate", "--model-config", "demo",  "--device", "cpu",
                                        "--frames", "17",       "--size",         "64x64", "--steps",  "6",
                                        "--chunk",  "2",        "--ar-step",      "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace

TEST_CASE("bench generate measures every row of a model with random weights") {
  const ProgramResult run = run_longtake(tiny_bench({"--random-weights", "--policy", "causal", "--json"}));
  INFO(run.err);
  REQUIRE(run.status == 0);
  const auto report = nlohmann::json::parse(run.out);
  CHECK(report["model"] == "demo");
  CHECK(report["dtype"] == "fp32");
  CHECK(report["vae_dtype"] == "fp32");
  CHECK(report["rows_planned"] == report["rows"].size());
  CHECK(report["stopped"] == false);
  CHECK(report["recomputed_share"] == 1);
  CHECK(report["decode_seconds"] > 0);
  CHECK(report["kv_bytes"] > 0);
  double seconds = 0, flops = 0;
  int moved = 0;
  for (const auto& row : report["rows"]) {
    CHECK(row["seconds"] > 0);
    CHECK(row["flops"] > 0);
    seconds += row["seconds"].get<double>(), flops += row["flops"].get<double>(), moved += row["chunks"].get<int>();
  }
  CHECK(seconds == Approx(report["denoise_seconds"].get<double>()));
  CHECK(flops == Approx(report["flops"].get<double>()));
  CHECK(moved == 3 * 6);  // three chunks, six steps each
  int grouped = 0;
  for (const auto& group : report["by_chunks"]) grouped += group["rows"].get<int>();
  CHECK(grouped == report["rows_planned"]);
}

TEST_CASE("bench generate stops after --rows and says so") {
  const ProgramResult run =
      run_longtake(tiny_bench({"--random-weights", "--rows", "2", "--dtype", "bf16", "--guidance", "1"}));
  INFO(run.err);
  REQUIRE(run.status == 0);
  CHECK_THAT(run.out, ContainsSubstring("in 2 of 8 rows (stopped there: --rows)") &&
                          ContainsSubstring("decode: not measured") && ContainsSubstring("random weights (seed 1)") &&
                          ContainsSubstring("bf16") && ContainsSubstring("1 branch,"));
}

TEST_CASE("bench generate replays a plan over several windows, and runs a model's own files") {
  const ProgramResult run =
      run_longtake({"bench", "generate", "--device", "cpu", "--frames", "33", "--window", "17", "--overlap", "5",
                    "--size", "32x32", "--steps", "50", "--chunk", "2", "--plan",
                    LONGTAKE_SOURCE_DIR "/configs/plans/motioncache-fixed-50.json", "--vae-dtype", "bf16", "--json"});
  INFO(run.err);
  REQUIRE(run.status == 0);
  const auto report = nlohmann::json::parse(run.out);
  CHECK(report["vae_dtype"] == "bf16");
  CHECK(report["rows"].back()["window"] > 0);
  CHECK(report["rows_planned"] == report["rows"].size());
  // 5 warm-up steps, 6 full ones and 9 of about 70 % of the columns, of 50.
  CHECK(report["recomputed_share"].get<double>() == Approx((5 + 6 + 9 * 0.7) / 50).margin(0.05));
  CHECK_THAT(report["weights"].get<std::string>(), ContainsSubstring("share/models/demo"));
}

TEST_CASE("bench says what is wrong with its options") {
  const ProgramResult unknown = run_longtake(tiny_bench({"--polcy", "causal"}));
  CHECK(unknown.status == 2);
  CHECK_THAT(unknown.err, ContainsSubstring("did you mean '--policy'?"));
  const ProgramResult both = run_longtake(tiny_bench({"--random-weights", "--policy", "causal", "--plan",
                                                      LONGTAKE_SOURCE_DIR "/configs/plans/motioncache-fixed-50.json"}));
  CHECK(both.status == 2);
  CHECK_THAT(both.err, ContainsSubstring("exclude each other"));
  const ProgramResult files = run_longtake({"bench", "generate", "-m", "skyreels-v2-df-14b-540p"});
  CHECK(files.status == 3);
  CHECK_THAT(files.err, ContainsSubstring("--random-weights"));
  CHECK(run_longtake({"bench"}).status == 2);
  CHECK(run_longtake(tiny_bench({"--random-weights", "--rows", "0"})).status == 2);
}

TEST_CASE("bench ops times the operators at the model's shapes") {
  const ProgramResult run = run_longtake({"bench", "ops", "--model-config", "demo", "--device", "cpu", "--size",
                                          "32x32", "--window", "17", "--chunk", "5", "--repeats", "2", "--json"});
  INFO(run.err);
  REQUIRE(run.status == 0);
  const auto report = nlohmann::json::parse(run.out);
  std::set<std::string> names;
  for (const auto& op : report["ops"]) {
    names.insert(op["name"].get<std::string>());
    CHECK(op["hot_seconds"] > 0);
    CHECK(op["cold_seconds"] > 0);
    CHECK(op["bytes"].get<double>() + op["flops"].get<double>() > 0);
  }
  for (const char* name : {"copy", "gemm", "attend", "layer_norm + modulate", "rms_norm + rope", "row: add gated"})
    CHECK(names.contains(name));
  const ProgramResult table =
      run_longtake({"bench", "ops", "--device", "cpu", "--size", "32x32", "--repeats", "1", "--only", "gemm"});
  INFO(table.err);
  CHECK_THAT(table.out, ContainsSubstring("TFLOP/s") && ContainsSubstring("256 x 1024"));
  CHECK_THAT(table.out, !ContainsSubstring("attend"));
}
