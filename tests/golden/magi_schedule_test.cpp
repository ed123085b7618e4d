// MAGI-1's schedule against the reference's, row by row: grids, stages, key ranges, guidance scales, step sizes,
// emission.
#include "runtime/magi_schedule.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/magi_guidance.h"
#include "tests/golden/golden.h"

using namespace longtake;

namespace {

nlohmann::json range(const KeyRange& r) { return {r.begin, r.end}; }

void check_row(const nlohmann::json& wanted, const magi::Row& row, const magi::ScheduleSettings& settings,
               const magi::Config& config, int first) {
  INFO(wanted.dump());
  CHECK(row.prefix == (wanted.at("call") == "prefix"));
  CHECK(row.extra_clean == wanted.at("extra_clean"));
  CHECK(row.chunks.front().chunk == wanted.at("slice_point"));
  REQUIRE(row.chunks.size() == wanted.at("t").size());
  for (size_t i = 0; i < row.chunks.size(); ++i) {
    CHECK(row.chunks[i].t == wanted.at("t")[i].get<float>());
    CHECK(range(row.chunks[i].keys) == wanted.at("kv_chunks")[i]);
    if (!row.prefix) CHECK(row.chunks[i].step == wanted.at("step_of_chunk")[i]);
  }
  if (wanted.contains("dt")) {
    CHECK(row.interval == wanted.at("interval"));
    CHECK(magi::step_size(settings, row.interval) == wanted.at("dt"));
  }
  if (row.prefix) {
    CHECK(row.chunks.back().chunk == first - 1);
    return;
  }
  CHECK(row.nearly_clean == wanted.at("nearly_clean"));
  for (size_t i = row.extra_clean; wanted.contains("text_scale") && i < row.chunks.size(); ++i) {
    const auto scales = magi::guidance_scales(config.run, row.chunks[i].t);
    CHECK(scales.prev_chunks == wanted.at("prev_chunk_scale")[i - row.extra_clean]);
    CHECK(scales.text == wanted.at("text_scale")[i - row.extra_clean]);
  }
}

}  // namespace

TEST_CASE("MAGI-1's schedule is the reference's", "[golden]") {
  const auto root = golden::magi();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  for (const std::string set : {"base", "distill"}) {
    magi::Config config = magi::Config::read(root / set / "config.json");
    std::ifstream stream(root / set / "schedule.json");
    const auto cases = nlohmann::json::parse(stream);
    REQUIRE_FALSE(cases.empty());
    double worst = 0;
    for (const auto& c : cases) {
      config.run.steps = c.at("num_steps");
      config.run.window = c.at("window_size");
      config.run.key_chunks = c.at("noise2clean_kvrange").get<std::vector<int>>();
      config.run.clean_key_chunks = c.at("clean_chunk_kvrange");
      config.engine.shortcut_mode = c.at("shortcut_mode");
      const auto settings = magi::ScheduleSettings::of(config);
      const int prefix = c.at("prefix_latent_frames"), chunks = c.at("chunk_num");
      config.run.frames = (chunks * config.run.chunk_frames - prefix) * config.run.temporal_downsample;
      const auto size = magi::VideoSize::of(config.run, prefix);
      CHECK(size.chunks == chunks);
      CHECK(size.first == c.at("chunk_offset"));

      const auto grid = magi::time_grid(settings);
      REQUIRE(grid.size() == c.at("t").size());
      for (size_t i = 0; i < grid.size(); ++i) {
        worst = std::max(worst, std::abs(double(grid[i]) - c.at("t")[i].get<double>()));
        CHECK(grid[i] == c.at("t")[i].get<float>());
      }
      const auto stages = magi::stages(settings, size);
      REQUIRE(stages.size() == c.at("stages").size());
      for (size_t i = 0; i < stages.size(); ++i) {
        const auto& s = c.at("stages")[i];
        CHECK(range(stages[i].chunks) == nlohmann::json{s.at("chunk_start"), s.at("chunk_end")});
        CHECK(range(stages[i].quarters) == nlohmann::json{s.at("t_start"), s.at("t_end")});
      }

      const auto rows = magi::rows(settings, size);
      const auto& calls = c.at("calls");
      REQUIRE(rows.size() == calls.size());
      nlohmann::json emitted = nlohmann::json::array();
      int step = 0;
      for (size_t i = 0; i < rows.size(); ++i) {
        check_row(calls[i], rows[i], settings, config, size.first);
        if (rows[i].finished >= 0) {
          const KeyRange frames = size.emitted(rows[i].finished);
          emitted.push_back(
              {{"after_step", step}, {"chunk", rows[i].finished}, {"latent_frames", frames.end - frames.begin}});
        }
        step += !rows[i].prefix;
      }
      CHECK(emitted == c.at("emitted"));
    }
    fmt::print("  {} time grids: largest difference {:.2e}\n", set, worst);
  }
}
