#include "runtime/windows.h"

#include "base/error.h"
#include "tests/catch.h"

using longtake::plan_windows;
using longtake::WindowRequest;

namespace {

WindowRequest request(int frames, int window = 97, int overlap = 17, int chunk = 5) {
  WindowRequest r;
  r.frames = frames;
  r.window_frames = window;
  r.overlap_frames = overlap;
  r.chunk = chunk;
  return r;
}

std::vector<int> latents(const WindowRequest& r) {
  std::vector<int> out;
  for (const auto& w : plan_windows(r).windows) out.push_back(w.latent_frames);
  return out;
}

using Ints = std::vector<int>;

}  // namespace

TEST_CASE("windows are the reference's") {
  CHECK(latents(request(97)) == Ints{25});
  CHECK(latents(request(57)) == Ints{15});
  CHECK(latents(request(177)) == Ints{25, 25});
  CHECK(latents(request(257)) == Ints{25, 25, 25});
  CHECK(latents(request(377)) == Ints{25, 25, 25, 25, 15});
  CHECK(latents(request(737)) == Ints(9, 25));
  CHECK(latents(request(1457)) == Ints(18, 25));
  CHECK(latents(request(237)) == Ints{25, 25, 20});
  CHECK(latents(request(289)) == Ints{25, 25, 25, 13});
  CHECK(latents(request(329, 121, 17, 1)) == Ints{31, 31, 31});
  CHECK(latents(request(433, 121, 17, 1)) == Ints(4, 31));
  CHECK(latents(request(745, 121, 17, 1)) == Ints(7, 31));
}

TEST_CASE("prefix and new frames add up") {
  const auto plan = plan_windows(request(177));
  CHECK(plan.latent_frames == 45);
  CHECK(plan.overlap_latents == 5);
  REQUIRE(plan.windows.size() == 2);
  CHECK(plan.windows[0].prefix_latents == 0);
  CHECK(plan.windows[0].frames == 97);
  CHECK(plan.windows[1].prefix_latents == 5);
  CHECK(plan.windows[1].first_frame == 97);
  CHECK(plan.windows[1].frames == 80);

  const int frames = GENERATE(1, 5, 97, 101, 177, 233, 1001);
  const int overlap = GENERATE(17, 25, 37);
  const auto other = plan_windows(request(frames, 97, overlap));
  int shown = 0;
  for (const auto& w : other.windows) {
    CHECK(w.first_frame == shown);
    CHECK(w.frames > 0);
    CHECK(w.latent_frames > w.prefix_latents);
    CHECK(w.prefix_latents % 5 == 0);
    shown += w.frames;
  }
  CHECK(shown == frames);
}

TEST_CASE("a prefix is cut to whole chunks") {
  const auto plan = plan_windows(request(177, 97, 29, 5));  // 8 latent frames of overlap
  CHECK(plan.overlap_latents == 8);
  CHECK(plan.windows[1].prefix_latents == 5);
  CHECK(plan.windows[1].frames == 68);
}

TEST_CASE("frame counts that do not fit are refused with both neighbours") {
  CHECK_THROWS_WITH(plan_windows(request(100)),
                    "100 frames do not fit (frames must be 4k + 1); the nearest that do are 97 and 101");
  CHECK_THROWS_WITH(plan_windows(request(0)),
                    "0 frames do not fit (a video has at least 1 frame); the nearest that do are 1");
  auto whole = request(289);
  whole.whole_chunks = true;
  CHECK_THROWS_WITH(
      plan_windows(whole),
      "289 frames do not fit (parity with the reference needs windows that divide into chunks of 5 latent "
      "frames); the nearest that do are 277 and 297");
  CHECK(latents(request(289)) == Ints{25, 25, 25, 13});
  auto equal = request(237);
  equal.whole_windows = true;
  CHECK_THROWS_WITH(
      plan_windows(equal),
      "237 frames do not fit (parity with the reference needs every window to have 97 frames); the nearest "
      "that do are 177 and 257");
  CHECK_THROWS_AS(plan_windows(request(1'000'001)), longtake::Error);
}

TEST_CASE("settings that cannot work are refused with what would") {
  CHECK_THROWS_WITH(plan_windows(request(97, 98)), "window frames must be 4k + 1 (such as 97), got 98");
  CHECK_THROWS_WITH(plan_windows(request(177, 97, 16)), "overlap frames must be 4k + 1 (such as 17), got 16");
  CHECK_THROWS_WITH(plan_windows(request(177, 97, 13)),
                    "an overlap of 13 frames is shorter than a chunk of 5 latent frames; use --overlap 17 or more");
  CHECK_THROWS_WITH(plan_windows(request(177, 97, 97)),
                    "an overlap of 97 frames leaves nothing new in a window of 97; use --overlap 93 or less");
  CHECK_NOTHROW(plan_windows(request(97, 97, 16)));  // one window: the overlap is not read
  CHECK_THROWS_AS(plan_windows(request(97, 97, 17, 0)), longtake::Error);
  auto whole = request(93, 93);
  whole.whole_chunks = true;
  CHECK_THROWS_WITH(plan_windows(whole),
                    "a window of 93 frames has 24 latent frames, which chunks of 5 do not divide; use --window 77");
}

TEST_CASE("durations become the nearest frame count that fits, with a note") {
  const auto rounded = longtake::frames_for_duration(7.4, 24, request(0));
  CHECK(rounded.frames == 177);
  CHECK(rounded.note == "7.4 s at 24 fps is 177.6 frames; the nearest that fits is 177 (7.38 s)");
  const auto up = longtake::frames_for_duration(10, 24, request(0));
  CHECK(up.frames == 241);
  const auto exact = longtake::frames_for_duration(6.0625, 16, request(0));
  CHECK(exact.frames == 97);
  CHECK(exact.note.empty());
  CHECK(longtake::frames_for_duration(0.01, 24, request(0)).frames == 1);
  auto equal = request(0);
  equal.whole_windows = true;
  CHECK(longtake::frames_for_duration(10, 24, equal).frames == 257);
  CHECK_THROWS_AS(longtake::frames_for_duration(0, 24, request(0)), longtake::Error);
  CHECK_THROWS_AS(longtake::frames_for_duration(1, 0, request(0)), longtake::Error);
  CHECK_THROWS_AS(longtake::frames_for_duration(1e9, 24, request(0)), longtake::Error);
}

TEST_CASE("given frames are the first window's prefix and shown") {
  for (const int given : {1, 5, 17, 29})
    for (const int frames : {33, 97, 177, 289})
      for (const int chunk : {1, 2, 5, 7}) {
        INFO("given " << given << " frames " << frames << " chunk " << chunk);
        WindowRequest r = request(frames, 97, 29, chunk);
        r.given_frames = given;
        const auto plan = plan_windows(r), without = plan_windows(request(frames, 97, 29, chunk));
        REQUIRE(plan.windows.size() == without.windows.size());
        CHECK(plan.windows[0].prefix_latents == longtake::latent_frames_of(given));
        int shown = 0;
        for (size_t w = 0; w < plan.windows.size(); ++w) {
          CHECK(plan.windows[w].first_frame == shown);
          CHECK(plan.windows[w].latent_frames == without.windows[w].latent_frames);
          if (w > 0) CHECK(plan.windows[w].prefix_latents == without.windows[w].prefix_latents);
          shown += plan.windows[w].frames;
        }
        CHECK(shown == frames);
        }
}

TEST_CASE("given frames must leave something to generate") {
  WindowRequest r = request(1);
  r.given_frames = 1;
  CHECK_THROWS_WITH(plan_windows(r), Catch::Matchers::ContainsSubstring("nothing is left to generate") &&
                                       Catch::Matchers::ContainsSubstring("the nearest that do are 5"));
  r = request(97, 17, 5, 1);
  r.given_frames = 17;
  CHECK_THROWS_WITH(plan_windows(r), Catch::Matchers::ContainsSubstring("--window"));
  r = request(97);
  r.given_frames = 1;
  r.whole_chunks = true;
  CHECK_THROWS_WITH(plan_windows(r), Catch::Matchers::ContainsSubstring("--chunk 1"));
  r.chunk = 1;
  CHECK_NOTHROW(plan_windows(r));
}
