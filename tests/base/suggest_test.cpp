#include "base/suggest.h"

#include "tests/catch.h"

using namespace longtake;

TEST_CASE("edit distance counts swaps as one slip") {
  CHECK(edit_distance("", "") == 0);
  CHECK(edit_distance("steps", "stpes") == 1);
  CHECK(edit_distance("Guidance", "guidance") == 0);
  CHECK(edit_distance("abc", "") == 3);
}

TEST_CASE("nearest suggests likely slips only") {
  const std::vector<std::string> words{"steps", "shift", "guidance", "policy.threshold"};
  CHECK(nearest("step", words) == "steps");
  CHECK(nearest("policy.treshold", words) == "policy.threshold");
  CHECK(nearest("zzzzzz", words).empty());
  CHECK(did_you_mean("guidence", words) == " (did you mean 'guidance'?)");
}
