#include "video_io/seams.h"

#include "base/error.h"
#include "runtime/generate.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

#include <ATen/ops/full.h>
#include <nlohmann/json.hpp>

using namespace longtake;

namespace {

WindowPlan plan(int frames, int window, int overlap, int chunk) {
  WindowRequest request;
  request.frames = frames, request.window_frames = window, request.overlap_frames = overlap, request.chunk = chunk;
  return plan_windows(request);
}

}  // namespace

TEST_CASE("borders of one window are its chunks") {
  const Borders borders = borders_of(plan(97, 97, 17, 5));
  CHECK(borders.windows.empty());
  CHECK(borders.chunks == std::vector<int64_t>{17, 37, 57, 77});
}

TEST_CASE("borders of a run are those of its windows; a MAGI-1 video's are its chunks") {
  for (const int frames : {97, 177, 57, 257})
    for (const int given : {0, 1, 9}) {
      GenerateSettings settings;
      settings.plan = plan_windows({.frames = frames, .window_frames = 49, .overlap_frames = 13, .given_frames = given, .chunk = 3, .end_picture = given == 1});
      const Borders of_run = borders_of(run_layout(settings)), of_plan = borders_of(settings.plan);
      CHECK(of_run.windows == of_plan.windows);
      CHECK(of_run.chunks == of_plan.chunks);
    }
  RunLayout magi{.channels = 16, .height = 4, .width = 6, .latent_frames = 6, .missing_frames = 0, .overlap = 0, .windows = {}};
  magi.windows.push_back({.chunks = {{0, 2, 5, 0}, {2, 2, 7, 2}, {4, 2, 9, 4}}, .given = 0, .rows = 10, .steps = 8});
  CHECK(borders_of(magi).windows.empty());
  CHECK(borders_of(magi).chunks == std::vector<int64_t>{8, 16});
  magi.missing_frames = 3;
  CHECK(borders_of(magi).chunks == std::vector<int64_t>{5, 13});
}

TEST_CASE("further windows begin where they add frames") {
  const WindowPlan two = plan(177, 97, 17, 5);
  const Borders borders = borders_of(two);
  CHECK(borders.windows == std::vector<int64_t>{97});
  CHECK(borders.chunks == std::vector<int64_t>{17, 37, 57, 77, 117, 137, 157});
  // A prefix that does not fill its chunk is cut: the chunk that is generated again begins before the window's frames.
  for (const auto& [frames, window, overlap, chunk] : {std::tuple{57, 29, 9, 2}, std::tuple{257, 97, 33, 5}}) {
    const WindowPlan cut = plan(frames, window, overlap, chunk);
    const Borders b = borders_of(cut);
    REQUIRE(b.windows.size() == cut.windows.size() - 1);
    for (size_t i = 0; i < b.windows.size(); ++i) CHECK(b.windows[i] == cut.windows[i + 1].first_frame);
    for (const int64_t frame : b.chunks) {
      CHECK(frame % 4 == 1);
      CHECK(frame < frames);
      CHECK(std::find(b.windows.begin(), b.windows.end(), frame) == b.windows.end());
    }
  }
}

TEST_CASE("a step is the mean change of luma and chroma, a jump its ratio to the median elsewhere") {
  // Grey levels that rise by 2 a frame, and by 12 at frame 5: luma only.
  at::Tensor frames = at::full({10, 16, 16, 3}, 40, at::kByte);
  int level = 40;
  for (int t = 1; t < 10; ++t) frames[t].fill_(level += t == 5 ? 12 : 2);
  const SeamReport report = measure_seams(frames, {{5}, {8}});
  CHECK(std::abs(report.median_luma - 2) < 1e-4);
  CHECK(report.median_chroma < 1e-4);
  REQUIRE(report.windows.size() == 1);
  CHECK(std::abs(report.windows[0].luma - 6) < 1e-4);
  CHECK(std::abs(report.windows[0].luma_step - 12) < 1e-4);
  CHECK(std::abs(report.chunks[0].luma - 1) < 1e-4);
  CHECK(report.largest->frame == 5);
  CHECK(mean_jump({}) == std::nullopt);
  CHECK(seam_json(report)["windows"][0]["frame"] == 5);
}

TEST_CASE("chroma follows BT.709") {
  at::Tensor frames = at::full({3, 16, 16, 3}, 100, at::kByte);
  frames.narrow(0, 2, 1).select(3, 2).fill_(150);  // blue up by 50 in the last frame
  const SeamReport report = measure_seams(frames, {{2}, {}});
  const double luma = 0.0722 * 50;
  CHECK(std::abs(report.windows[0].luma_step - luma) < 1e-3);
  CHECK(std::abs(report.windows[0].chroma_step - ((50 - luma) / 1.8556 + luma / 1.5748) / 2) < 1e-3);
  // Nothing moved before: the divisor is the smallest step that counts.
  CHECK(std::abs(report.windows[0].luma - luma / kSmallestStep) < 0.1);
}

TEST_CASE("borders outside the clip are usage errors, a single frame has no steps") {
  const at::Tensor clip = smooth_clip(5, 16, 16);
  for (const int64_t frame : {int64_t{0}, int64_t{5}, int64_t{-1}}) {
    try {
      measure_seams(clip, {{frame}, {}});
      FAIL("expected an error");
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::usage);
    }
  }
  CHECK_FALSE(measure_seams(clip.narrow(0, 0, 1), {}).largest);
}
