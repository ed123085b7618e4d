#include "runtime/policy_spec.h"

#include "base/error.h"
#include "tests/catch.h"

using longtake::parse_policy;
using longtake::PolicySpec;

TEST_CASE("policies parse into name, preset and values") {
  CHECK(parse_policy("none") == PolicySpec{"none", "", {}});
  CHECK(parse_policy("motioncache:slow") == PolicySpec{"motioncache", "slow", {}});
  CHECK(parse_policy("motioncache:threshold=0.2,norm=max_rescale") ==
        PolicySpec{"motioncache", "", {{"threshold", "0.2"}, {"norm", "max_rescale"}}});
  CHECK(parse_policy("motioncache:fast,floor=0.5") == PolicySpec{"motioncache", "fast", {{"floor", "0.5"}}});
  CHECK(parse_policy("tea-cache2:a=b=c") == PolicySpec{"tea-cache2", "", {{"a", "b=c"}}});
}

TEST_CASE("policies print what parses to the same") {
  for (const char* text : {"none", "motioncache:slow", "motioncache:fast,floor=0.5,warmup=4", "motioncache:a=1,b=2"}) {
    CHECK(longtake::to_text(parse_policy(text)) == text);
  }
}

TEST_CASE("malformed policies are refused") {
  for (const char* text : {"", ":slow", "None", "a b", "m:", "m:,a=1", "m:a=1,", "m:a=", "m:=1", "m:a=1,slow",
                           "m:a=1,a=2", "m:slow,fast", "m:SLOW"}) {
    INFO(text);
    CHECK_THROWS_AS(parse_policy(text), longtake::Error);
  }
  CHECK_THROWS_WITH(parse_policy("m:a=1,a=2"), "policy 'm:a=1,a=2' sets a twice");
}
