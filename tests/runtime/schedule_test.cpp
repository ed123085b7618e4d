#include "runtime/schedule.h"

#include "base/error.h"
#include "runtime/unipc.h"
#include "tests/catch.h"

using longtake::ChunkStep;
using longtake::Schedule;

namespace {

// Timesteps of a row, with "u" behind those that are updated.
std::string text(const Schedule& schedule, int row) {
  std::string out;
  for (const ChunkStep& s : schedule.row(row)) out += fmt::format("{}{} ", s.timestep, s.update ? "u" : "");
  return out;
}

}  // namespace

TEST_CASE("chunks cover the window, the last one may be short") {
  const auto even = longtake::split_chunks(25, 5);
  REQUIRE(even.size() == 5);
  CHECK(even[4].first == 20);
  CHECK(even[4].frames == 5);
  const auto ragged = longtake::split_chunks(13, 5);
  REQUIRE(ragged.size() == 3);
  CHECK(ragged[2].first == 10);
  CHECK(ragged[2].frames == 3);
  const auto one = longtake::split_chunks(3, 5);
  REQUIRE(one.size() == 1);
  CHECK(one[0].frames == 3);
  CHECK_THROWS_AS(longtake::split_chunks(0, 5), longtake::Error);
  CHECK_THROWS_AS(longtake::split_chunks(5, 0), longtake::Error);
}

TEST_CASE("the asynchronous schedule follows the reference row by row") {
  const auto tau = longtake::flow_timesteps(30, 8);
  const Schedule fresh(tau, 5, 0, 5);
  CHECK(fresh.rows() == 50);
  CHECK(text(fresh, 0) == "999u 999 999 999 999 ");
  CHECK(text(fresh, 5) == "975u 999u 999 999 999 ");
  CHECK(text(fresh, 6) == "969u 995u 999 999 999 ");
  CHECK(text(fresh, 20) == "799u 888u 941u 975u 999u ");
  CHECK(text(fresh, 34) == "0 216u 666u 822u 901u ");
  CHECK(text(fresh, 41) == "0 0 0 551u 773u ");
  CHECK(text(fresh, 49) == "0 0 0 0 216u ");
  CHECK(fresh.active(34) == std::vector<int>{1, 2, 3, 4});
  CHECK(fresh.last_row(0) == 29);
  CHECK(fresh.last_row(4) == 49);

  const Schedule after_prefix(tau, 5, 1, 5);
  CHECK(after_prefix.rows() == 45);
  CHECK(text(after_prefix, 0) == "0 999u 999 999 999 ");
  CHECK(after_prefix.last_row(0) == -1);
}

TEST_CASE("the published MotionCache setting has 70 and 65 rows") {
  const auto tau = longtake::flow_timesteps(50, 8);
  CHECK(Schedule(tau, 5, 0, 5).rows() == 70);
  CHECK(Schedule(tau, 5, 1, 5).rows() == 65);
}

TEST_CASE("every chunk takes each step once, in order") {
  const int steps = GENERATE(1, 2, 7, 12);
  const int ar_step = GENERATE(0, 1, 3, 5, 12, 40);
  const int ready = GENERATE(0, 1, 3);
  const int chunks = 4;
  const auto tau = longtake::flow_timesteps(steps, 5);
  const Schedule schedule(tau, chunks, ready, ar_step);
  std::vector<int> next(chunks, 0);
  for (int r = 0; r < schedule.rows(); ++r) {
    CHECK_FALSE(schedule.active(r).empty());
    for (int b = 0; b < chunks; ++b) {
      const ChunkStep& s = schedule.row(r)[b];
      if (s.update) {
        CHECK(s.step == next[b]);
        CHECK(s.timestep == tau[s.step]);
        CHECK_FALSE(s.done());
        ++next[b];
      } else if (s.idle) {
        CHECK(next[b] == 0);
        CHECK(s.timestep == 999);
        CHECK(s.step == 0);
      } else {
        CHECK(s.done());
        CHECK(s.timestep == 0);
        CHECK(s.step == steps);
      }
    }
  }
  for (int b = 0; b < chunks; ++b) CHECK(next[b] == (b < ready ? 0 : steps));
  if (ar_step <= steps) CHECK(schedule.rows() == steps + (chunks - ready - 1) * ar_step);
}

TEST_CASE("a window that is all prefix has no rows, and nonsense is refused") {
  CHECK(Schedule({999, 500}, 2, 2, 5).rows() == 0);
  CHECK_THROWS_AS(Schedule({}, 2, 0, 5), longtake::Error);
  CHECK_THROWS_AS(Schedule({999}, 2, 3, 5), longtake::Error);
  CHECK_THROWS_AS(Schedule({999}, 0, 0, 5), longtake::Error);
  CHECK_THROWS_AS(Schedule({999}, 2, 0, -1), longtake::Error);
}

TEST_CASE("the reference form refuses a moving interval that would leave chunks behind") {
  CHECK(longtake::timestep_matrix(45, 50, 25, 10, 0, 5, 8).matrix.size(0) == 130);
  REQUIRE_THROWS_WITH(longtake::timestep_matrix(45, 50, 25, 9, 0, 5, 8),
                      "ar_step must be at least 10 where 45 frames exceed the window of 25, got 9");
  CHECK(longtake::timestep_matrix(13, 8, 13, 3, 0, 5, 8).matrix.size(1) == 10);  // the rest has no column
}

TEST_CASE("no chunk is part prefix and part new, whatever the chunk size") {
  for (const int chunk : {1, 2, 5, 7})
    for (const int prefix : {0, 1, 5, 8})
      for (const int latents : {9, 13, 25}) {
        INFO("chunk " << chunk << " prefix " << prefix << " latents " << latents);
        const longtake::WindowSpan window{.latent_frames = latents, .prefix_latents = prefix};
        const auto chunks = longtake::window_chunks(window, chunk);
        const int ready = longtake::prefix_chunks(window, chunk);
        int next = 0;
        for (int c = 0; c < static_cast<int>(chunks.size()); ++c) {
          CHECK(chunks[c].first == next);
          CHECK((chunks[c].frames >= 1 && chunks[c].frames <= chunk));
          next += chunks[c].frames;
          CHECK((c < ready) == (next <= prefix));
        }
        CHECK(next == latents);
        // Where the prefix is whole chunks, the grid is as it always was.
        if (prefix % chunk == 0) CHECK(chunks.size() == longtake::split_chunks(latents, chunk).size());
      }
}
