// The step matrix against the reference's, cell by cell.
#include "runtime/schedule.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "tests/golden/golden.h"

TEST_CASE("the step matrix is the reference's", "[golden]") {
  const auto root = longtake::golden::skyreels();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  const auto folder = root / "a";
  const auto file = longtake::Checkpoint::open(folder / "timestep_matrix.safetensors");
  std::ifstream stream(folder / "timestep_matrix.json");
  const auto cases = nlohmann::json::parse(stream);
  REQUIRE_FALSE(cases.empty());
  for (const auto& c : cases) {
    const int number = c.at("case");
    INFO(c.dump());
    auto run = [&] {
      return longtake::timestep_matrix(c.at("num_frames"), c.at("steps"), c.at("base"), c.at("ar_step"),
                                       c.at("pre_ready"), c.at("block"), c.at("shift"));
    };
    if (c.contains("error")) {
      CHECK_THROWS_AS(run(), longtake::Error);
      continue;
    }
    const auto result = run();
    auto golden = [&](const char* part) { return file.tensor(fmt::format("c{}_{}", number, part)); };
    CHECK(result.matrix.equal(golden("matrix")));
    CHECK(result.index.equal(golden("index")));
    CHECK(result.mask.equal(golden("mask").to(at::kBool)));
    CHECK(result.interval.equal(golden("interval")));
  }
}
