#include "runtime/policy_entry.h"

#include "base/error.h"
#include "tests/catch.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<std::string> labels(const std::vector<std::string>& texts) {
  std::vector<std::string> out;
  for (const PolicyEntry& entry : parse_policy_list(texts)) out.push_back(entry.label);
  return out;
}

std::string error_of(const std::string& text) {
  try {
    const auto entries = parse_policy_list(std::vector{text});
    for (const PolicyEntry& entry : entries) {
      OptionSet shared;
      shared.set({"prompt", "x", "test"}, SourceLevel::flag);
      shared.set({"out", "x", "test"}, SourceLevel::flag);
      with_entry(shared, entry, Recipe{});
    }
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::usage);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("entries are separated by commas, semicolons and repetition") {
  using L = std::vector<std::string>;
  CHECK(labels({"none,causal"}) == L{"none", "causal"});
  CHECK(labels({"none; causal", "motioncache:slow"}) == L{"none", "causal", "motioncache:slow"});
  // KEY=VALUE behind a comma belongs to the policy before it.
  CHECK(labels({"causal,motioncache:threshold=0.2,warmup=4,none"}) ==
        L{"causal", "motioncache:threshold=0.2,warmup=4", "none"});
  CHECK(labels({"motioncache:slow,floor=0.5;causal@history=carry,none"}) ==
        L{"motioncache:slow,floor=0.5", "causal@history=carry", "none"});
  // A value with a colon in it is still a value.
  CHECK(labels({"future:a=b:2,c=d,none"}) == L{"future:a=b:2,c=d", "none"});
}

TEST_CASE("an entry carries options of its own") {
  const PolicyEntry entry = parse_policy_entry("motioncache:warmup=4,threshold=0.2@history=carry sampling.steps=30");
  CHECK(entry.policy == "motioncache:threshold=0.2,warmup=4");
  CHECK(entry.label == "motioncache:threshold=0.2,warmup=4@history=carry@steps=30");
  REQUIRE(entry.options.size() == 2);
  CHECK(entry.options[0].key == "sampling.history");
  CHECK(entry.options[1].value == "30");
  OptionSet shared;
  shared.set({"prompt", "x", "test"}, SourceLevel::flag);
  shared.set({"out", "x", "test"}, SourceLevel::flag);
  shared.set({"sampling.steps", "10", "--steps"}, SourceLevel::flag);
  const OptionSet own = with_entry(shared, entry, Recipe{});
  CHECK(own.values().policy == entry.policy);
  CHECK(own.values().history == "carry");
  CHECK(own.values().steps == 30);
  CHECK(shared.values().steps == 10);
}

TEST_CASE("only the policy itself is a baseline") {
  CHECK(parse_policy_entry("causal").plain("causal"));
  CHECK_FALSE(parse_policy_entry("causal@history=carry").plain("causal"));
}

TEST_CASE("what is wrong with a list is said") {
  CHECK_THAT(error_of("causal@histry=carry"),
             ContainsSubstring("histry") && ContainsSubstring("did you mean 'history'"));
  CHECK_THAT(error_of("causal@history=cary"), ContainsSubstring("history") && ContainsSubstring("cary"));
  CHECK_THAT(error_of("causal@seed=3"), ContainsSubstring("same for all"));
  CHECK_THAT(error_of("causal@frames=17"), ContainsSubstring("video.frames"));
  CHECK_THAT(error_of("causal@dtype=bf16"), ContainsSubstring("run.dtype"));
  CHECK_THAT(error_of("causal@history"), ContainsSubstring("KEY=VALUE"));
  CHECK_THAT(error_of("causal@history=carry@history=reencode"), ContainsSubstring("twice"));
  CHECK_THAT(error_of("causal,causal"), ContainsSubstring("twice"));
  CHECK_THAT(error_of("causal;;none"), ContainsSubstring("empty"));
  CHECK_THAT(error_of(""), ContainsSubstring("empty"));
}
