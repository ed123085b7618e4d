// Memory as it was predicted and as the real program takes it.
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/models/magi_folder.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

nlohmann::json done_event(const std::filesystem::path& log) {
  std::istringstream lines(read_bytes(log));
  nlohmann::json last;
  for (std::string line; std::getline(lines, line);) last = nlohmann::json::parse(line);
  REQUIRE(last["event"] == "done");
  return last;
}

// The largest stage as it was predicted, and as it was.
std::pair<double, double> peaks_of(const nlohmann::json& memory) {
  double predicted = 0, peak = 0;
  for (const char* stage : {"text encoding", "loading", "denoising", "decoding"}) {
    predicted = std::max(predicted, memory.at(stage).at("predicted_bytes").get<double>());
    peak = std::max(peak, memory.at(stage).at("peak_bytes").get<double>());
  }
  return {predicted, peak};
}

// `bench generate` with these arguments: the larger of denoising and decoding takes what was predicted, above what the process holds
// anyway, to 15 %. A stage below the peak finds what the C library kept of the ones before it, so the peak is what can be compared.
void check_prediction(std::vector<std::string> arguments) {
  INFO(fmt::format("{}", fmt::join(arguments, " ")));
  arguments.insert(arguments.begin(), {"bench", "generate"});
  arguments.insert(arguments.end(), {"--device", "cpu", "--json"});
  const ProgramResult result = run_longtake(arguments);
  INFO(result.err);
  REQUIRE(result.status == 0);
  const auto report = nlohmann::json::parse(result.out);
  if (report.at("denoise_peak_bytes").is_null()) LONGTAKE_SKIP("this system does not tell a process's peak memory");
  const double base = report.at("base_bytes");
  const auto most = [&](const std::string& what) { return std::max(report.at("denoise_" + what), report.at("decode_" + what)).get<double>(); };
  CHECK(most("predicted_bytes") - base == Approx(most("peak_bytes") - base).epsilon(0.15));
}

// A recipe of sizes alone, large enough that what libraries hold for themselves does not decide.
void write_magi_recipe(const std::filesystem::path& folder, const std::string& model, const std::string& special_tokens, int frames) {
  std::filesystem::create_directories(folder);
  test::write_file(folder / "recipe.yaml",
                   fmt::format("description: small\n"
                               "layouts: {{x: {{transformer: t, vae: v, text_encoder: e, tokenizer: k{}}}}}\n"
                               "architecture: {{family: magi-1, dim: 512, ffn: 2048, heads: 8, kv_heads: 4, layers: 4, latent_channels: 16, text_dim: 64, "
                               "text_len: 100, {}}}\n"
                               "defaults: {{policy: none, video: {{size: 320x320, frames: {}, fps: 24}}, sampling: {{steps: 4, chunk: 3, in_flight: 4{}}}, "
                               "run: {{dtype: fp32}}}}\n",
                               special_tokens == "none" ? "" : ", special_tokens: s", model, frames,
                               special_tokens == "none" ? ", special_tokens: none" : ""));
}

}  // namespace

TEST_CASE("a run takes what was predicted, above what the process holds anyway, to 15 %") {
  // Large enough that what libraries hold for themselves does not decide, and that freed memory goes back to the system.
  const std::vector<std::vector<std::string>> runs = {
      {"--policy", "causal", "--size", "320x320", "--frames", "33"},
      {"--policy", "none", "--size", "320x320", "--frames", "33", "--ar-step", "0"},
      {"--policy", "motioncache:slow", "--size", "256x320", "--frames", "33"},
      {"--policy", "predict:slow", "--size", "384x256", "--frames", "33", "--guidance", "1"},
      {"--policy", "causal", "--size", "384x320", "--frames", "25", "--dtype", "bf16"},
      {"--policy", "causal", "--size", "320x320", "--frames", "33", "--vae-dtype", "bf16"},
      {"--policy", "causal", "--size", "320x256", "--frames", "49", "--window", "33", "--overlap", "17"},
      {"--policy", "causal", "--size", "320x320", "--frames", "49", "--kv", "stream:1", "--decode-latents", "2"}};
  for (const auto& more : runs) {
    INFO(fmt::format("{}", fmt::join(more, " ")));
    std::vector<std::string> arguments = {"-m", "demo", "--steps", "3", "--chunk", "3", "--set", "sampling.ar_step=1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    check_prediction(arguments);
  }
}

TEST_CASE("a MAGI-1 run takes what was predicted to 15 %, with either VAE") {
  const TemporaryFolder folder;
  const std::string own = "gated_mlp: false, vae_dim: 768, vae_depth: 2, vae_heads: 12, ";
  write_magi_recipe(folder / "distilled", own + "distilled: true", "s", 36);
  write_magi_recipe(folder / "base", own + "guided_until: 0.3", "s", 24);
  write_magi_recipe(folder / "wan", "gated_mlp: true, vae_stages: [16, 32, 64, 64], vae_blocks: 2, umt5: true, distilled: true", "none", 33);
  for (const auto& [model, more] : std::vector<std::pair<const char*, std::vector<std::string>>>{
           {"distilled", {}}, {"distilled", {"--dtype", "bf16", "--size", "384x384"}}, {"base", {"--key-chunks", "all"}}, {"wan", {}}}) {
    std::vector<std::string> arguments = {"--model-config", folder / model, "--random-weights"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    check_prediction(arguments);
  }
}

TEST_CASE("MAGI-1: generate says what each stage took beside what was predicted, and a kept caption needs no text encoder") {
  const TemporaryFolder folder;
  const test::MagiFolder model(/*distilled=*/true);
  const std::vector<std::string> arguments = {"generate", "-m", model.path(), "-p", "a red circle over grass", "-o", folder / "x.mp4", "--seed", "1", "--dtype",
                                              "fp32", "--device", "cpu", "--json-log", folder / "log"};
  for (const bool cached : {false, true}) {
    const ProgramResult result = run_longtake(arguments, {std::nullopt, folder / "cache"});
    INFO(result.err);
    REQUIRE(result.status == 0);
    CHECK_THAT(result.out, ContainsSubstring("were predicted)"));
    const auto memory = done_event(folder / "log").at("memory");
    INFO(memory.dump(1));
    CHECK((memory.at("text encoding").at("predicted_bytes") == 0) == cached);
    for (const char* stage : {"denoising", "decoding"}) CHECK(memory.at(stage).at("predicted_bytes") > 0);
    CHECK(memory.contains("loading"));
  }
}

TEST_CASE("MAGI-1: generate takes what was predicted to 15 %, decoding beside denoising included") {
  const TemporaryFolder folder;
  magi::ModelConfig sizes = test::tiny_magi_config();
  sizes.layers = 4, sizes.dim = 512, sizes.ffn_dim = 2048, sizes.heads = 8, sizes.kv_heads = 4, sizes.head_width = 64, sizes.condition_dim = 128;
  const test::MagiWanFolder model(sizes);
  const ProgramResult result = run_longtake({"generate", "-m", model.path(), "-p", "a red circle over grass", "-o", folder / "x.mp4", "--seed", "1", "--size",
                                             "320x320", "--frames", "57", "--chunk", "3", "--steps", "4", "--device", "cpu", "--threads", "1",
                                             "--json-log", folder / "log"});
  INFO(result.err);
  REQUIRE(result.status == 0);
  const auto memory = done_event(folder / "log").at("memory");
  INFO(memory.dump(1));
  const auto [predicted, peak] = peaks_of(memory);
  if (peak == 0) LONGTAKE_SKIP("this system does not tell a process's peak memory");
  CHECK(predicted == Approx(peak).epsilon(0.15));
}

TEST_CASE("MAGI-1: a run that does not fit ends before anything is loaded") {
  const TemporaryFolder folder;
  const test::MagiFolder model(/*distilled=*/true);
  const auto generate = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"generate", "-m", model.path(), "-p", "x", "-o", folder / "x.mp4", "--seed", "1", "--dtype", "fp32", "--device", "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_longtake(arguments);
  };
  const ProgramResult refused = generate({"--memory-budget", "150MB", "--size", "640x640"});
  INFO(refused.err);
  CHECK(refused.status == 4);
  CHECK_THAT(refused.err, ContainsSubstring("is expected to need") && ContainsSubstring("left of --memory-budget") && !ContainsSubstring("--window"));
  CHECK(folder.names().empty());
  CHECK(generate({"--memory-budget", "1TB"}).status == 0);
  const ProgramResult planned = generate({"--dry-run", "--memory-budget", "150MB", "--size", "640x640"});
  CHECK(planned.status == 0);
  CHECK_THAT(planned.out, ContainsSubstring("peak memory:") && ContainsSubstring("is expected to need"));
  const ProgramResult offloaded = generate({"--offload"});
  CHECK(offloaded.status == 2);
  CHECK_THAT(offloaded.err, ContainsSubstring("--offload keeps weights out of a GPU's memory"));
  const ProgramResult published = run_longtake({"generate", "-m", "magi-1-24b-distill", "--dry-run", "--offload", "--device", "cuda"});
  CHECK(published.status == 0);
  CHECK_THAT(published.out, ContainsSubstring("of page-locked host memory"));
}

TEST_CASE("generate writes what each stage took beside what was predicted; decoding beside denoising is part of it") {
  // The second run leaves nothing to be decoded beside denoising, and its second push is a short one.
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
           {"--steps", "4", "--chunk", "1", "--ar-step", "2", "--decode-latents", "1", "--size", "320x320", "--frames", "33"},
           {"--steps", "3", "--chunk", "3", "--ar-step", "1", "--size", "384x320", "--frames", "25", "--dtype", "bf16"}}) {
    INFO(fmt::format("{}", fmt::join(more, " ")));
    const TemporaryFolder folder;
    std::vector<std::string> arguments{"generate", "-m", "demo", "-p", "a red circle moves up over grass", "-o", folder / "x.mp4", "--seed", "1", "--policy",
                                       "causal", "--device", "cpu", "--json-log", folder / "log"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult result = run_longtake(arguments);
    INFO(result.err);
    REQUIRE(result.status == 0);
    CHECK_THAT(result.out, ContainsSubstring("were predicted)"));
    const auto memory = done_event(folder / "log").at("memory");
    INFO(memory.dump(1));
    const auto [predicted, peak] = peaks_of(memory);
    if (peak == 0) LONGTAKE_SKIP("this system does not tell a process's peak memory");
    CHECK(predicted == Approx(peak).epsilon(0.15));
  }
}

TEST_CASE("a video of a batch takes what was predicted to 15 %, its encoder included") {
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
           {"--size", "320x320", "--frames", "49"}, {"--size", "320x256", "--frames", "81", "--window", "33", "--overlap", "17"}}) {
    INFO(fmt::format("{}", fmt::join(more, " ")));
    const TemporaryFolder folder;
    test::write_file(folder / "list.txt", "a red circle moves up over grass\n");
    std::vector<std::string> arguments{"batch", folder / "list.txt", "-o", folder / "videos", "-m", "demo", "--policy", "causal", "--steps", "3", "--chunk", "3",
                                       "--set", "sampling.ar_step=1", "--device", "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult result = run_longtake(arguments);
    INFO(result.err);
    REQUIRE(result.status == 0);
    const auto memory = nlohmann::json::parse(read_bytes(folder / "videos/meta/records/a_red_circle_moves_up_over_grass.json")).at("memory");
    INFO(memory.dump(1));
    if (memory.at("peak_bytes") == 0) LONGTAKE_SKIP("this system does not tell a process's peak memory");
    CHECK(memory.at("predicted_bytes").get<double>() == Approx(memory.at("peak_bytes").get<double>()).epsilon(0.15));
  }
}

TEST_CASE("a run that does not fit ends before anything is loaded; a larger budget runs it, fewer latents a push settle what is left open") {
  const TemporaryFolder folder;
  const ProgramResult refused = run_longtake(quick_generate(folder / "x.mp4", {"--memory-budget", "400MB", "--size", "512x512"}));
  INFO(refused.err);
  CHECK(refused.status == 4);
  CHECK_THAT(refused.err, ContainsSubstring("is expected to need") && ContainsSubstring("left of --memory-budget") && ContainsSubstring("--size"));
  CHECK_FALSE(std::filesystem::exists(folder / "x.mp4"));
  CHECK_FALSE(std::filesystem::exists(folder / "x.mp4.run"));
  CHECK(run_longtake(quick_generate(folder / "x.mp4", {"--memory-budget", "1TB"})).status == 0);
  const ProgramResult planned = run_longtake(quick_generate(folder / "x.mp4", {"--dry-run", "--memory-budget", "400MB", "--size", "512x512"}));
  CHECK(planned.status == 0);
  CHECK_THAT(planned.out, ContainsSubstring("peak memory:") && ContainsSubstring("is expected to need"));
}

TEST_CASE("weights are not offloaded from a CPU, and the message says why") {
  const TemporaryFolder folder;
  const ProgramResult result = run_longtake(quick_generate(folder / "x.mp4", {"--offload", "--device", "cpu"}));
  CHECK(result.status == 2);
  CHECK_THAT(result.err, ContainsSubstring("--offload keeps weights out of a GPU's memory"));
}

TEST_CASE("MAGI-1: decode is refused where it does not fit, and takes fewer latents at once where the VAE can") {
  const TemporaryFolder folder;
  const test::MagiFolder own(/*distilled=*/true);
  const test::MagiWanFolder wan;
  for (const auto& model : {own.path(), wan.path()}) {
    const bool is_wan = model == wan.path();
    INFO(model);
    const std::string name = is_wan ? "wan" : "own";
    const auto run = folder / (name + ".safetensors.run");
    const auto decode = [&](const std::vector<std::string>& more) {
      std::vector<std::string> arguments = {"decode", run, "-o", folder / (name + "2.safetensors")};
      arguments.insert(arguments.end(), more.begin(), more.end());
      return run_longtake(arguments);
    };
    const ProgramResult made = run_longtake({"generate", "-m", model, "-p", "x", "-o", folder / (name + ".safetensors"), "--seed", "1", "--device", "cpu",
                                             "--keep-run"});
    INFO(made.err);
    REQUIRE(made.status == 0);
    const ProgramResult refused = decode({"--memory-budget", "1MB"});
    INFO(refused.err);
    CHECK(refused.status == 4);
    CHECK_THAT(refused.err, ContainsSubstring("is expected to need") && ContainsSubstring("left of --memory-budget"));
    CHECK_FALSE(std::filesystem::exists(folder / (name + "2.safetensors")));
    const ProgramResult fewer = decode({"--decode-latents", "1"});
    CHECK(fewer.status == (is_wan ? 0 : 2));
    if (!is_wan) CHECK_THAT(fewer.err, ContainsSubstring("--decode-latents") && ContainsSubstring("tile by tile"));
    CHECK(decode({"--memory-budget", "1TB"}).status == 0);
    CHECK(decode({}).status == 0);
  }
}

TEST_CASE("decode is refused before anything is loaded where it does not fit, and asks for no more than decoding takes") {
  const TemporaryFolder folder;
  const auto run = folder / "x.mp4.run";
  REQUIRE(run_longtake(quick_generate(folder / "x.mp4", {"--keep-run", "--memory-budget", "1TB"})).status == 0);
  const ProgramResult refused = run_longtake({"decode", run, "-o", folder / "y.mp4", "--memory-budget", "1MB"});
  INFO(refused.err);
  CHECK(refused.status == 4);
  CHECK_THAT(refused.err, ContainsSubstring("is expected to need") && ContainsSubstring("left of --memory-budget"));
  CHECK_FALSE(std::filesystem::exists(folder / "y.mp4"));
  CHECK(run_longtake({"decode", run, "-o", folder / "y.mp4", "--memory-budget", "1TB", "--decode-latents", "5"}).status == 0);
  CHECK(run_longtake({"decode", run, "-o", folder / "z.mp4"}).status == 0);
}
