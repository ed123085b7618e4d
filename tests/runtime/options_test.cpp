#include "runtime/options.h"

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "runtime/options_yaml.h"
#include "tests/catch.h"

using longtake::find_option;
using longtake::GenerateOptions;
using longtake::option_schema;
using longtake::option_text;
using longtake::OptionInfo;
using longtake::OptionKind;
using longtake::OptionSet;
using longtake::SourceLevel;

namespace {

// A valid text other than the default.
std::string other_value(const OptionInfo& info) {
  const std::string now = option_text(GenerateOptions(), info);
  switch (info.kind) {
    case OptionKind::text:
      return "other";
    case OptionKind::timeline:
      return "0-2: one\n2-: other\n";
    case OptionKind::choice:
      return info.choices[0] == now ? info.choices[1] : info.choices[0];
    case OptionKind::integer:
      return fmt::format("{}",
                         std::stoi(now) == info.min ? static_cast<int>(info.min) + 1 : static_cast<int>(info.min));
    case OptionKind::number:
      return "1.75";
    case OptionKind::toggle:
      return now == "true" ? "false" : "true";
    case OptionKind::seed:
      return "18446744073709551615";
    case OptionKind::size:
      return "128x256";
    case OptionKind::bytes:
      return "1.5MB";
    case OptionKind::seconds:
      return "7.4s";
  }
  return {};
}

const void* address(const GenerateOptions& options, const OptionInfo& info) {
  return std::visit([&](auto field) -> const void* { return &(options.*field); }, info.field);
}

GenerateOptions runnable() {
  GenerateOptions o;
  o.prompt = "a boat";
  o.out = "out.mp4";
  return o;
}

}  // namespace

TEST_CASE("every field has exactly one option") {
  // A new field breaks this binding until it is listed here and in the schema.
  const GenerateOptions o;
  const auto& [model, prompt, prompts, negative, out, seed, policy, plan, parity, size, frames, duration, fps, crf, preset, image, video,
               add, context, only_new, end_image, steps, guidance, shift, window, overlap, chunk, ar_step, addnoise, history, kv,
               in_flight, key_chunks, clean_key_chunks, prev_guidance, special_tokens, device, dtype, vae_dtype, precision, decode_latents, offload, memory_budget,
               threads, json_log, record_plan, dry_run, resume, overwrite_run, keep_run, preview, text_cache, checkpoint_budget] = o;
  const std::set<const void*> fields = {
      &model,    &prompt,  &negative, &out,   &seed,           &policy,  &parity,   &size,    &frames, &duration,
      &fps,      &crf,     &preset,   &steps, &guidance,       &shift,   &window,   &overlap, &chunk,  &ar_step,
      &addnoise, &history, &device,   &dtype, &vae_dtype, &precision, &decode_latents, &threads, &json_log, &dry_run,
      &resume,   &overwrite_run, &keep_run, &preview, &checkpoint_budget, &plan, &record_plan, &kv, &image,
      &prompts,  &video,   &add,      &context, &only_new, &end_image, &text_cache, &offload, &memory_budget,
      &in_flight, &key_chunks, &clean_key_chunks, &prev_guidance, &special_tokens};
  std::set<const void*> reached;
  for (const OptionInfo& info : option_schema()) CHECK(reached.insert(address(o, info)).second);
  CHECK(reached == fields);
}

TEST_CASE("every option changes the struct and reads back what it prints") {
  for (const OptionInfo& info : option_schema()) {
    INFO(info.key);
    OptionSet set;
    set.set({info.key, other_value(info), "test"}, SourceLevel::flag);
    CHECK_FALSE(set.values() == GenerateOptions());
    CHECK(set.source(info.key).level == SourceLevel::flag);
    GenerateOptions again;
    longtake::parse_option(again, info, option_text(set.values(), info), "test");
    CHECK(option_text(again, info) == option_text(set.values(), info));
  }
}

TEST_CASE("the schema is consistent") {
  std::set<std::string> keys, flags, closed;
  std::string section;
  for (const OptionInfo& info : option_schema()) {
    INFO(info.key);
    CHECK(keys.insert(info.key).second);
    CHECK(flags.insert(info.flag()).second);
    CHECK(info.flag().starts_with("--"));
    CHECK_FALSE(info.help.empty());
    CHECK(info.value_name.empty() == (info.kind == OptionKind::toggle));
    if (info.section() != section) {
      CHECK(closed.insert(info.section()).second);  // sections stand together
      section = info.section();
    }
    if (info.kind != OptionKind::seconds) {
      GenerateOptions o;  // the default is in range
      CHECK_NOTHROW(longtake::parse_option(o, info, option_text(o, info), "default"));
    }
  }
  CHECK(find_option("video.frames") != nullptr);
  CHECK(find_option("frames") == nullptr);
  CHECK(longtake::option_notes(*find_option("video.crf")) == "0 to 51; default: 18");
  CHECK(longtake::option_notes(*find_option("sampling.shift")) == "0.01 to 100; default: from the model's recipe");
  CHECK(longtake::option_notes(*find_option("parity")) == "none, skyreels-ref, motioncache-ref; default: none");
}

TEST_CASE("levels override each other in whatever order they arrive") {
  OptionSet set;
  set.set({"sampling.steps", "10", "--steps"}, SourceLevel::flag);
  set.set("sampling.steps=20");
  set.set("sampling.guidance=3");
  set.apply_yaml("sampling:\n  steps: 30\n  guidance: 4\n  shift: 5\n", "run.yaml");
  set.apply_recipe(
      {{"sampling.steps", "40", "recipe"}, {"sampling.shift", "7", "recipe"}, {"sampling.chunk", "3", "recipe"}});
  CHECK(set.values().steps == 10);
  CHECK(set.values().guidance == 3);
  CHECK(set.values().shift == 5);
  CHECK(set.values().chunk == 3);
  CHECK(set.source("sampling.steps").where == "--steps");
  CHECK(set.source("sampling.guidance").level == SourceLevel::set);
  CHECK(set.source("sampling.shift").where == "run.yaml line 4");
  CHECK(set.source("sampling.chunk").level == SourceLevel::recipe);
  CHECK(set.source("video.fps").level == SourceLevel::builtin);
  set.set("sampling.guidance=2");  // the later one of a level wins
  CHECK(set.values().guidance == 2);
}

TEST_CASE("with a parity the history is the references', whatever suits the model") {
  for (const char* parity : {"none", "skyreels-ref", "motioncache-ref"}) {
    OptionSet set;
    set.set({"parity", parity, "--parity"}, SourceLevel::flag);
    set.apply_recipe({{"sampling.history", "carry", "recipe"}, {"sampling.steps", "40", "recipe"}});
    CHECK(set.values().history == (std::string(parity) == "none" ? "carry" : "reencode"));
    CHECK(set.values().steps == 40);
  }
}

TEST_CASE("frames and duration exclude each other, the higher level wins") {
  OptionSet set;
  set.apply_yaml("video: {duration: 10}", "run.yaml");
  CHECK(set.values().duration == 10);
  CHECK(set.values().frames == 0);
  set.apply_recipe({{"video.frames", "121", "recipe"}});
  CHECK(set.values().duration == 10);
  set.set({"video.frames", "177", "--frames"}, SourceLevel::flag);
  CHECK(set.values().frames == 177);
  CHECK(set.values().duration == 0);
  CHECK_THROWS_WITH(set.set({"video.duration", "3", "--duration"}, SourceLevel::flag),
                    "--duration: video.duration and video.frames (--frames) exclude each other; give one of them");
  OptionSet both;
  CHECK_THROWS_AS(both.apply_yaml("video: {frames: 97, duration: 3}", "run.yaml"), longtake::Error);
}

TEST_CASE("printed options read back the same") {
  OptionSet set;
  for (const OptionInfo& info : option_schema())
    if (info.key != "video.duration") set.set({info.key, other_value(info), "line\nbreak"}, SourceLevel::flag);
  const std::string prompt = GENERATE(as<std::string>{}, "plain", "", " leading and trailing ", "a: b # c",
                                      "- 'single' \"double\" \\ back", "two\nlines\ttab\r", "true", "123", "~",
                                      "\x01\x1b\x7f", "gr\xc3\xbc\xc3\x9f \xe4\xbd\xa0 \xf0\x9f\x8e\xac",
                                      "\xc2\x85\xe2\x80\xa8\xef\xbb\xbf", "%d {x} [y] &a *b !c |", "---\n...");
  set.set({"prompt", prompt, "--prompt"}, SourceLevel::flag);
  const std::string printed = set.to_yaml();
  INFO(printed);
  OptionSet again;
  again.apply_yaml(printed, "printed");
  CHECK(again.values() == set.values());

  OptionSet duration;
  duration.set("video.duration=7.4");
  OptionSet duration_again;
  duration_again.apply_yaml(duration.to_yaml(), "printed");
  CHECK(duration_again.values() == duration.values());

  OptionSet plain, plain_again;
  plain_again.apply_yaml(plain.to_yaml(), "printed");
  CHECK(plain_again.values() == GenerateOptions());
}

TEST_CASE("YAML mistakes are named with their line") {
  OptionSet set;
  auto message = [&](const std::string& text) -> std::string {
    try {
      set.apply_yaml(text, "run.yaml");
    } catch (const longtake::Error& error) {
      return error.what();
    }
    return "no error";
  };
  CHECK(message("prompt: x\nvideo:\n  frame: 97\n") ==
        "run.yaml line 3: unknown key 'video.frame' (did you mean 'video.frames'?)");
  CHECK(message("steps: 50\n") == "run.yaml line 1: unknown key 'steps' (did you mean 'sampling.steps'?)");
  CHECK(message("video: {steps: 50}\n") ==
        "run.yaml line 1: unknown key 'video.steps' (did you mean 'sampling.steps'?)");
  CHECK(message("nonsense_xyz: 1\n") == "run.yaml line 1: unknown key 'nonsense_xyz'");
  CHECK(message("\nsampling:\n  steps: many\n") ==
        "run.yaml line 3: sampling.steps must be a whole number from 1 to 1000, found 'many'");
  CHECK(message("sampling: {steps: 1001}") ==
        "run.yaml line 1: sampling.steps must be a whole number from 1 to 1000, found '1001'");
  CHECK(message("sampling: {steps: 5.5}") ==
        "run.yaml line 1: sampling.steps must be a whole number from 1 to 1000, found '5.5'");
  CHECK(message("sampling: {steps: [5]}") == "run.yaml line 1: sampling.steps must be a single value, found a list");
  CHECK(message("sampling: {guidance: .nan}") ==
        "run.yaml line 1: sampling.guidance must be a number from 1 to 100, found '.nan'");
  CHECK(message("sampling: {guidance: nan}") ==
        "run.yaml line 1: sampling.guidance must be a number from 1 to 100, found 'nan'");
  CHECK(message("sampling:\n  history: cary\n") ==
        "run.yaml line 2: sampling.history must be one of reencode, carry, found 'cary' (did you mean 'carry'?)");
  CHECK(message("video: 5") ==
        "run.yaml line 1: video must be a section with keys such as size, frames, duration, fps, crf, preset, found a "
        "single "
        "value");
  CHECK(message("prompt:\n") ==
        "run.yaml line 1: prompt must have a value, found nothing; write \"\" for an empty text");
  CHECK(message("prompt: {a: b}") == "run.yaml line 1: prompt must be a single value, found a mapping");
  CHECK(message("prompt: a\nprompt: b\n") == "run.yaml line 2: the key 'prompt' is there twice");
  CHECK(message("- a\n- b\n") == "run.yaml: 'key: value' lines expected, found a list");
  CHECK(message("prompt: a\n---\nprompt: b\n") == "run.yaml: one YAML document expected, found more");
  CHECK(message("run: {dry_run: 1}") == "run.yaml line 1: run.dry_run must be true or false, found '1'");
  CHECK(message("video: {size: 540x960}") ==
        "run.yaml line 1: video.size must be HEIGHTxWIDTH in multiples of 16 from 16 to 8192, such as 544x960, found "
        "'540x960'");
  CHECK(message("seed: -1") ==
        "run.yaml line 1: seed must be a whole number from 0 to 18446744073709551615, or random, found '-1'");
  CHECK(message("") == "no error");
  CHECK(message("# only a comment\n") == "no error");
  CHECK(set.values() == GenerateOptions());  // a refused value changes nothing
}

TEST_CASE("broken and hostile YAML ends in an error") {
  OptionSet set;
  const std::string deep(100000, '[');
  const std::string wide = "prompt: " + std::string(300 << 10, 'x');
  for (const std::string& text :
       {std::string("prompt: \"open"), std::string("a: b: c: d"), std::string("prompt: \xff"), std::string("\t- x"),
        std::string("prompt: *unknown"), deep, wide, std::string("{a: &x [*x]}"), std::string("<<: {prompt: x}"),
        std::string("? [a]\n: b")}) {
    INFO(text.substr(0, 40));
    CHECK_THROWS_AS(set.apply_yaml(text, "x"), longtake::Error);
  }
  CHECK_THROWS_AS(longtake::read_text_file("/nonexistent/run.yaml"), longtake::Error);
  CHECK_THROWS_AS(longtake::read_text_file(LONGTAKE_SOURCE_DIR), longtake::Error);
}

TEST_CASE("--set takes key=value") {
  OptionSet set;
  set.set("prompt=a=b, c");
  CHECK(set.values().prompt == "a=b, c");
  set.set("prompt=");
  CHECK(set.values().prompt.empty());
  CHECK_THROWS_WITH(set.set("prompt"), "--set: expected KEY=VALUE, such as video.frames=177, found 'prompt'");
  CHECK_THROWS_WITH(set.set("promt=x"), "--set: unknown key 'promt' (did you mean 'prompt'?)");
  CHECK_THROWS_AS(set.set(std::string_view("prompt=a\0b", 10)), longtake::Error);
  CHECK_THROWS_AS(set.set("prompt=\xff"), longtake::Error);
}

TEST_CASE("recipes set what they may") {
  OptionSet set;
  CHECK_THROWS_WITH(set.apply_recipe({{"prompt", "x", "r.yaml line 2"}}), "r.yaml line 2: a recipe cannot set prompt");
  CHECK_THROWS_AS(set.apply_recipe({{"no.such", "x", "r.yaml line 2"}}), longtake::Error);
}

TEST_CASE("the manifest is nested and typed") {
  OptionSet set;
  set.set("seed=18446744073709551615");
  const auto json = set.to_json();
  CHECK(json["seed"].get<uint64_t>() == 18446744073709551615u);
  CHECK(json["video"]["size"] == "544x960");
  CHECK(json["video"]["frames"] == 97);
  CHECK_FALSE(json["video"].contains("duration"));
  CHECK(json["sampling"]["guidance"] == 6.0);
  CHECK(json["run"]["dry_run"] == false);
  CHECK(json.begin().key() == "model");
  CHECK(OptionSet().to_json()["seed"].is_null());
}

TEST_CASE("options are checked against each other") {
  CHECK_NOTHROW(longtake::validate(runnable()));
  auto refused = [](auto change) {
    GenerateOptions o = runnable();
    change(o);
    CHECK_THROWS_AS(longtake::validate(o), longtake::Error);
  };
  refused([](GenerateOptions& o) { o.prompt.clear(); });
  refused([](GenerateOptions& o) { o.out.clear(); });
  refused([](GenerateOptions& o) { o.frames = 98; });
  refused([](GenerateOptions& o) { o.policy = "Motion"; });
  refused([](GenerateOptions& o) { o.frames = 289, o.parity = "skyreels-ref"; });
  refused([](GenerateOptions& o) { o.frames = 237, o.parity = "motioncache-ref"; });
  refused([](GenerateOptions& o) { o.history = "carry", o.parity = "skyreels-ref"; });
  for (const char* device : {"gpu", "cuda:", "cuda:x", "cuda:1234", ""})
    refused([&](GenerateOptions& o) { o.device = device; });
  GenerateOptions dry;
  dry.dry_run = true;
  dry.device = "cuda:12";
  CHECK_NOTHROW(longtake::validate(dry));
}

TEST_CASE("the plan follows frames or duration") {
  GenerateOptions o = runnable();
  o.frames = 177;
  std::string note = "old";
  CHECK(longtake::plan_video(o, &note).windows.size() == 2);
  CHECK(note.empty());
  o.frames = 0;
  o.duration = 10;
  CHECK(longtake::plan_video(o, &note).request.frames == 241);
  CHECK(note == "10 s at 24 fps is 240.0 frames; the nearest that fits is 241 (10.04 s)");
}

TEST_CASE("sizes in bytes are read with their units and printed with the largest that fits") {
  const OptionInfo& info = *find_option("run.checkpoint_budget");
  const auto printed = [&](const std::string& text) {
    GenerateOptions o;
    longtake::parse_option(o, info, text, "test");
    return option_text(o, info);
  };
  CHECK(printed("2GB") == "2GB");
  CHECK(printed("1.5 GB") == "1500MB");
  CHECK(printed("1000000") == "1MB");
  CHECK(printed("12345B") == "12345B");
  CHECK(printed("12kB") == "12kB");
  CHECK(printed("0") == "0");
  for (const std::string text : {"", "GB", "-1MB", "1XB", "1e300GB", "nan", "inf", "1 2MB", "2PB"}) {
    INFO(text);
    CHECK_THROWS_AS(printed(text), longtake::Error);
  }
}
