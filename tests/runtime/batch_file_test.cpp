#include "runtime/batch_file.h"

#include <random>
#include <set>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

// A recipe that needs no files.
const Recipe& small_recipe(const std::string&) {
  static const Recipe recipe = [] {
    Recipe r;
    r.defaults = {{"video.size", "64x64", "recipe"}, {"video.frames", "17", "recipe"}, {"sampling.window", "17", "recipe"},
                  {"sampling.overlap", "5", "recipe"}, {"sampling.steps", "9", "recipe"}};
    return r;
  }();
  return recipe;
}

std::vector<BatchJob> prompts(const std::string& text, const OptionSet& base = {}) { return parse_prompt_list(text, "p.txt", base, small_recipe); }
std::vector<BatchJob> jobs(const std::string& text, const OptionSet& base = {}) { return parse_job_list(text, "j.yaml", base, small_recipe); }

template <class F>
std::string refused(F f, ExitCode code = ExitCode::usage) {
  try {
    f();
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a prompt list gives one job a line") {
  const auto list = prompts("\xef\xbb\xbf" "a red circle\r\n\r\n  \na blue square\na red circle");
  REQUIRE(list.size() == 3);
  CHECK(list[0].options.values().prompt == "a red circle");
  CHECK(list[0].place == "p.txt line 1");
  CHECK(list[1].place == "p.txt line 4");
  CHECK(list[2].name == "a_red_circle-2");
  CHECK(list[1].options.values().out == "a_blue_square.mp4");
  CHECK(list[1].options.values().steps == 9);
  CHECK(prompts("").empty());
}

TEST_CASE("a video's seed depends on the base and its own name, not on the others") {
  OptionSet base;
  base.set({"seed", "100", "--seed"}, SourceLevel::flag);
  const auto all = prompts("one\ntwo\nthree", base), fewer = prompts("three\none", base);
  CHECK(all[0].options.values().seed == fewer[1].options.values().seed);
  CHECK(all[2].options.values().seed == fewer[0].options.values().seed);
  CHECK(*all[0].options.values().seed - 100 == *prompts("one")[0].options.values().seed);
  std::set<uint64_t> seeds;
  std::string text;
  for (int i = 0; i < 300; ++i) text += "the same prompt\n";
  for (const BatchJob& job : prompts(text)) seeds.insert(*job.options.values().seed);
  CHECK(seeds.size() == 300);
}

TEST_CASE("jobs take generate's keys, and flags win over them") {
  OptionSet base;
  base.apply_yaml("sampling: {steps: 3, shift: 2}\nvideo: {fps: 12}", "config.yaml");
  base.set({"sampling.shift", "7", "--shift"}, SourceLevel::flag);
  const auto list = jobs(
      "- prompt: a red circle\n"
      "  name: first one\n"
      "  seed: 5\n"
      "  sampling: {steps: 4, shift: 3}\n"
      "- {prompt: a blue square, video: {frames: 33, size: 32x48}}\n",
      base);
  REQUIRE(list.size() == 2);
  CHECK(list[0].name == "first one");
  CHECK(list[0].options.values().seed == 5);
  CHECK(list[0].options.values().steps == 4);
  CHECK(list[0].options.values().shift == 7);
  CHECK(list[0].options.values().fps == 12);
  CHECK(list[1].options.values().steps == 3);
  CHECK(list[1].options.values().frames == 33);
  CHECK(list[1].options.values().size == FrameSize{32, 48});
  CHECK(list[1].place == "j.yaml line 5");
}

TEST_CASE("a name that a job asks for is never taken by one that is made up") {
  const auto list = jobs("- prompt: circle\n- {prompt: other, name: circle}\n");
  CHECK(list[0].name == "circle-2");
  CHECK(list[1].name == "circle");
}

TEST_CASE("slips in a list are refused with their line") {
  CHECK_THAT(refused([] { jobs("- prompt: a\n  stepz: 4\n"); }), ContainsSubstring("j.yaml line 2: unknown key 'stepz'"));
  CHECK_THAT(refused([] { jobs("- prompt: a\n  nmae: b\n"); }), ContainsSubstring("did you mean 'name'"));
  CHECK_THAT(refused([] { jobs("- prompt: a\n  sampling: {stepz: 4}\n"); }), ContainsSubstring("did you mean 'sampling.steps'"));
  CHECK_THAT(refused([] { jobs("- prompt: a\n  sampling: {steps: many}\n"); }), ContainsSubstring("line 2"));
  CHECK_THAT(refused([] { jobs("- prompt: a\n  out: x.mp4\n"); }), ContainsSubstring("give its 'name'"));
  CHECK_THAT(refused([] { jobs("- prompt: a\n  run: {threads: 4}\n"); }), ContainsSubstring("command line"));
  CHECK_THAT(refused([] { jobs("- prompt: a\n  seed: random\n"); }), ContainsSubstring("must be a number"));
  CHECK_THAT(refused([] { jobs("- prompt: a\n  name: ../x\n"); }), ContainsSubstring("line 2: the name '../x' cannot be a file name"));
  CHECK_THAT(refused([] { jobs("- {prompt: a, name: x}\n- {prompt: b, name: X}\n"); }), ContainsSubstring("taken by j.yaml line 1"));
  CHECK_THAT(refused([] { jobs("- prompt: a\n- just text\n"); }), ContainsSubstring("j.yaml line 2"));
  CHECK_THAT(refused([] { jobs("prompt: a\n"); }), ContainsSubstring("a list expected"));
  CHECK_THAT(refused([] { jobs("- prompt: [a, b]\n"); }), ContainsSubstring("a single value"));
  CHECK_THAT(refused([] { jobs("- {prompt: a, prompt: b}\n"); }), ContainsSubstring("twice"));
  CHECK_THAT(refused([] { jobs("- {prompt: a\n- b"); }, ExitCode::bad_file), ContainsSubstring("is not YAML"));
  CHECK_THAT(refused([] { jobs("- prompt: caf\xe9\n"); }, ExitCode::bad_file), ContainsSubstring("UTF-8"));
  CHECK_THAT(refused([] { prompts("good\nbad \x01 one\n"); }), ContainsSubstring("p.txt line 2: holds the control character U+0001"));
  CHECK_THAT(refused([] { prompts(std::string("a\0b", 3)); }), ContainsSubstring("U+0000"));
  CHECK_THAT(refused([] { prompts("a\ncaf\xe9"); }), ContainsSubstring("p.txt line 2: is not UTF-8"));
  CHECK_THAT(refused([] { prompts(std::string(20000, 'x')); }), ContainsSubstring("20000 bytes"));
  CHECK_THAT(refused([] { prompts(std::string((8 << 20) + 1, 'x')); }, ExitCode::bad_file), ContainsSubstring("larger than 8 MiB"));
  CHECK_THAT(refused([] {
    std::string many;
    for (int i = 0; i < 100001; ++i) many += "x\n";
    prompts(many);
  }), ContainsSubstring("more than 100000 videos"));
  OptionSet random;
  random.set({"seed", "random", "--seed"}, SourceLevel::flag);
  CHECK_THAT(refused([&] { prompts("a", random); }), ContainsSubstring("--seed"));
}

TEST_CASE("texts that the YAML library never finishes are refused") {
  // Found by fuzzing: a comma outside brackets makes one empty document after the other.
  for (const std::string text : {"- !sa\n,\n!ng_e", ",", "- a\n,", "}", "- a\n]"}) CHECK_THROWS_AS(jobs(text), Error);
}

TEST_CASE("what single values cannot show is refused before anything is made") {
  const TemporaryFolder folder;
  const auto read = [&](const std::string& name, const std::string& text) {
    write_bytes(folder / name, text);
    return refused([&] { read_batch_file(folder / name, {}, small_recipe); });
  };
  CHECK(read("good.yaml", "- prompt: a\n- prompt: b\n").empty());
  CHECK(read("good.txt", "- not: yaml\n").empty());  // a prompt like any other
  CHECK_THAT(read("a.yaml", "- prompt: a\n- {prompt: b, video: {frames: 18}}\n"), ContainsSubstring("a.yaml line 2: ") && ContainsSubstring("17"));
  CHECK_THAT(read("b.yaml", "- video: {frames: 17}\n"), ContainsSubstring("b.yaml line 1: there is no prompt"));
  CHECK_THAT(read("c.yaml", "- {prompt: b, policy: motioncahce}\n"), ContainsSubstring("did you mean 'motioncache'"));
  CHECK_THAT(read("d.yaml", ""), ContainsSubstring("holds no jobs"));
  CHECK_THAT(read("d.txt", "\n\n"), ContainsSubstring("holds no prompts"));
  CHECK_THAT(refused([&] { read_batch_file(folder / "none.txt", {}, small_recipe); }, ExitCode::bad_file), ContainsSubstring("none.txt"));
}

TEST_CASE("bytes of any kind give jobs or an error, never anything else") {
  std::mt19937 random(3);
  const std::string seed = "- prompt: a red circle\n  name: x\n  sampling: {steps: 4}\n- {prompt: b, video: {frames: 17}}\n";
  int refusals = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string text = seed;
    for (size_t edits = 1 + random() % 6; edits > 0; --edits) text[random() % text.size()] = static_cast<char>(random());
    try {
      for (const BatchJob& job : jobs(text)) CHECK(job.options.values().seed.has_value());
      for (const BatchJob& job : prompts(text)) CHECK_FALSE(job.name.empty());
    } catch (const Error& error) {
      ++refusals;
      CHECK((error.code() == ExitCode::usage || error.code() == ExitCode::bad_file));
    }
  }
  CHECK(refusals > 100);
}

TEST_CASE("shards share a list, and each job belongs to one of them") {
  for (int count = 1; count <= 7; ++count)
    for (size_t job = 0; job < 20; ++job) {
      int owners = 0;
      for (int index = 1; index <= count; ++index) owners += Shard{index, count}.has(job);
      CHECK(owners == 1);
    }
  CHECK(parse_shard("2/8").index == 2);
  CHECK(parse_shard("2/8").count == 8);
  for (const char* text : {"", "2", "0/8", "9/8", "-1/8", "1/0", "1/8x", "a/b", "1//2", "99999999999/2", "1/99999999999"})
    CHECK_THAT(refused([&] { parse_shard(text); }), ContainsSubstring("--shard must be I/N"));
}
