// What a run was begun with: it comes back as it was, and what differs is named.
#include "runtime/run_record.h"

#include "base/error.h"
#include "base/utf8.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

RunRecord record_of(const OptionSet& options) {
  RunRecord record;
  record.version = "1.0";
  for (const OptionInfo& info : option_schema()) record.options[info.key] = option_text(options.values(), info);
  record.model = {{"vae", "10 bytes"}};
  record.environment = {{"libtorch", "2.11"}, {"instructions", "AVX2"}};
  return record;
}

OptionSet some_options() {
  OptionSet options;
  for (const auto& [key, value] : std::map<std::string, std::string>{{"prompt", "a \"quoted\"\nprompt, with ünicode: yes"},
                                                                    {"out", "x.mp4"},
                                                                    {"seed", "18446744073709551615"},
                                                                    {"video.size", "64x80"},
                                                                    {"video.frames", "41"},
                                                                    {"sampling.shift", "3.3"},
                                                                    {"sampling.window", "17"},
                                                                    {"sampling.overlap", "9"},
                                                                    {"sampling.chunk", "2"},
                                                                    {"run.checkpoint_budget", "1.5GB"}})
    options.set({key, value, "test"}, SourceLevel::flag);
  return options;
}

// The error, or "", of going on with `begun` after one change.
std::string going_on(const RunRecord& begun, const std::string& key, const std::string& value) {
  OptionSet options;
  options.set({key, value, "--flag"}, SourceLevel::flag);
  options.set({"out", "x.mp4", "--out"}, SourceLevel::flag);
  apply_record(options, begun, "x.mp4.run");
  RunRecord now = record_of(options);
  try {
    check_same_run(begun, now, Recipe{}, options, "x.mp4.run");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::usage);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("all options come back from run.json") {
  const OptionSet options = some_options();
  const RunRecord record = record_of(options);
  const RunRecord back = RunRecord::from_json(record.to_json(), "run.json");
  CHECK(back.options == record.options);
  CHECK(back.model == record.model);
  CHECK(back.environment == record.environment);
  OptionSet taken_up;
  taken_up.set({"out", "x.mp4", "--out"}, SourceLevel::flag);
  apply_record(taken_up, back, "x.mp4.run");
  CHECK(taken_up.values() == options.values());
}

TEST_CASE("a length in seconds comes back as one") {
  OptionSet options = some_options();
  OptionSet by_duration;
  by_duration.set({"video.duration", "1", "test"}, SourceLevel::flag);
  OptionSet back;
  apply_record(back, record_of(by_duration), "x");
  CHECK(back.values().duration == 1);
  CHECK(back.values().frames == 0);
}

TEST_CASE("every option either may differ or is refused by name") {
  const RunRecord begun = record_of(some_options());
  const std::map<std::string, std::string> other = {
      {"model", "another"},          {"prompt", "another"},           {"negative", "another"},      {"out", "y.mp4"},
      {"seed", "7"},                 {"policy", "none"},              {"parity", "skyreels-ref"},   {"video.size", "64x64"},
      {"video.frames", "25"},        {"video.duration", "1"},         {"video.fps", "12"},          {"video.crf", "3"},
      {"video.preset", "fast"},      {"sampling.steps", "7"},         {"sampling.guidance", "2"},   {"sampling.shift", "4"},
      {"sampling.window", "25"},     {"sampling.overlap", "13"},      {"sampling.chunk", "1"},      {"sampling.ar_step", "3"},
      {"sampling.addnoise", "1"},    {"sampling.history", "carry"},   {"run.device", "cuda"},       {"run.dtype", "fp32"},           {"run.precision", "fp8"},     {"run.vae_dtype", "bf16"},
      {"run.decode_latents", "1"},   {"run.threads", "3"},            {"run.json_log", "log"},      {"run.dry_run", "true"},
      {"run.resume", "true"},        {"run.overwrite_run", "true"},   {"run.keep_run", "true"},     {"run.checkpoint_budget", "0"},
      {"run.preview", "latent"},     {"run.text_cache", "off"},      {"run.offload", "true"},      {"run.memory_budget", "2GB"},      {"plan", "p.json"},              {"run.record_plan", "r.json"}, {"sampling.kv", "stream:2"},
      {"conditioning.add", "2"},     {"conditioning.context", "5"},   {"conditioning.only_new", "true"},
      {"sampling.in_flight", "2"},   {"sampling.key_chunks", "all"},  {"sampling.clean_key_chunks", "3"},
      {"sampling.prev_guidance", "2"}, {"sampling.special_tokens", "none"}};
  for (const OptionInfo& info : option_schema()) {
    const bool file = info.key == "conditioning.image" || info.key == "conditioning.end_image" || info.key == "conditioning.video";
    if (file || info.key == "prompts") continue;  // a file's content counts: below; prompts are lines: below
    INFO(info.key);
    REQUIRE(other.contains(info.key));
    const std::string message = going_on(begun, info.key, other.at(info.key));
    if (info.free_on_resume) {
      CHECK(message.empty());
    } else if (info.key == "video.frames" || info.key == "video.duration") {
      CHECK_THAT(message, ContainsSubstring("was begun with 41"));
    } else {
      CHECK_THAT(message, ContainsSubstring(info.key) && ContainsSubstring("'" + other.at(info.key) + "'") &&
                              ContainsSubstring("'" + printable(begun.options.at(info.key)) + "'") && ContainsSubstring("--flag"));
    }
  }
}

TEST_CASE("other prompts over time are refused by name") {
  CHECK_THAT(going_on(record_of(some_options()), "prompts", "0-: a boat"), ContainsSubstring("prompts is '0-: a boat"));
}

TEST_CASE("an image counts by its content, not by its name") {
  const OptionSet options = some_options();
  RunRecord begun = record_of(options);
  begun.options["conditioning.image"] = "a.png";
  begun.inputs = {{"conditioning.image", "10 bytes, 01234567"}};
  CHECK(RunRecord::from_json(begun.to_json(), "run.json").inputs == begun.inputs);
  RunRecord now = begun;
  now.options["conditioning.image"] = "b.png";
  CHECK_NOTHROW(check_same_run(begun, now, Recipe{}, options, "x.mp4.run"));
  now.inputs["conditioning.image"] = "10 bytes, 76543210";
  CHECK_THROWS_WITH(check_same_run(begun, now, Recipe{}, options, "x.mp4.run"), ContainsSubstring("--image (b.png)"));
  now.inputs.clear();
  CHECK_THROWS_WITH(check_same_run(begun, now, Recipe{}, options, "x.mp4.run"), ContainsSubstring("now none"));
}

TEST_CASE("how frames are decoded may change where no latents depend on them") {
  OptionSet options = some_options();
  CHECK_FALSE(going_on(record_of(options), "run.decode_latents", "1").empty());
  options.set({"sampling.history", "carry", "test"}, SourceLevel::flag);
  CHECK(going_on(record_of(options), "run.decode_latents", "1").empty());
  OptionSet single = some_options();
  single.set({"video.frames", "17", "test"}, SourceLevel::flag);
  CHECK(going_on(record_of(single), "run.decode_latents", "1").empty());
}

TEST_CASE("a text encoder is told by its shards, in whichever form they are") {
  for (const std::string extension : {".safetensors", ".bin"}) {
    const TemporaryFolder folder;
    ModelFiles files;
    files.text_encoder = folder.path() / "encoder", files.tokenizer = folder.path() / "spiece.model";
    std::filesystem::create_directories(files.text_encoder);
    write_bytes(files.tokenizer, "tokens");
    write_bytes(files.text_encoder / ("pytorch_model-1" + extension), "weights");
    const std::string before = text_encoder_fingerprint(files);
    CHECK(text_encoder_fingerprint(files) == before);
    write_bytes(files.text_encoder / ("pytorch_model-1" + extension), "Weights");
    CHECK(text_encoder_fingerprint(files) != before);
    // Beside safetensors, pickles play no part.
    const std::string now = text_encoder_fingerprint(files);
    write_bytes(files.text_encoder / "other.bin", "weights");
    CHECK((text_encoder_fingerprint(files) == now) == (extension == ".safetensors"));
  }
}

TEST_CASE("another version or model is refused, another machine is mentioned") {
  const OptionSet options = some_options();
  const RunRecord begun = record_of(options);
  RunRecord now = begun;
  now.version = "1.1";
  CHECK_THROWS_WITH(check_same_run(begun, now, Recipe{}, options, "x"), ContainsSubstring("longtake 1.0") && ContainsSubstring("1.1"));
  now = begun;
  now.model["vae"] = "11 bytes";
  CHECK_THROWS_WITH(check_same_run(begun, now, Recipe{}, options, "x"), ContainsSubstring("vae"));
  now.model.clear();
  CHECK_THROWS_WITH(check_same_run(begun, now, Recipe{}, options, "x"), ContainsSubstring("missing"));
  now = begun;
  now.model["more"] = "x";
  CHECK_THROWS_WITH(check_same_run(begun, now, Recipe{}, options, "x"), ContainsSubstring("more files"));
  now = begun;
  CHECK(environment_note(begun, now).empty());
  now.environment["instructions"] = "AVX512";
  CHECK_NOTHROW(check_same_run(begun, now, Recipe{}, options, "x"));
  CHECK_THAT(environment_note(begun, now), ContainsSubstring("instructions AVX2 then, AVX512 now"));
}
