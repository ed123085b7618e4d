// When a run that goes on from its folder decodes what was there, and how it stops meanwhile.
#include "tests/runtime/resumed_run.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using namespace longtake::test::resume;
namespace fs = std::filesystem;

TEST_CASE("a resumed run decodes beside its rows what an uninterrupted one does") {
  World world;
  world.settings.plan = plan_windows({.frames = 17, .window_frames = 17, .overlap_frames = 0, .chunk = 2});
  world.settings.decode_ahead = true;
  world.settings.decode_queue = 0;  // what is to be decoded soon is decoded at once
  world.settings.decode_latents = 1;
  const auto resumed = [&](int stop) {
    const TemporaryFolder folder;
    world.run(RunFolder::create(folder / "x.run", some_record()).get(), stop);
    return world.run(RunFolder::open(folder / "x.run", RunFolder::Access::write).get());
  };
  const Output whole = world.run(nullptr);
  REQUIRE(whole.rows == 5);
  CHECK(resumed(3).frames_before_rows == 5);  // of the first chunk
  const Output last = resumed(4);
  CHECK(last.rows == 1);
  CHECK(last.frames_before_rows == 0);  // with one row left they wait
  check_equal(whole, last);
}

TEST_CASE("a run stops while it decodes what it took up, and makes no frames behind those that it left out") {
  World world;
  world.settings.decode_latents = 1;
  const bool whole_run = GENERATE(true, false);
  world.settings.decode_ahead = true;
  if (!whole_run) world.settings.decode_queue = 0;  // frames are counted here while rows ask
  const Output whole = world.run(nullptr);
  const int rows_of_first = run_layout(world.settings).windows[0].rows;
  const TemporaryFolder folder;
  const fs::path path = folder / "x.run";
  if (whole_run)
    world.run(RunFolder::create(path, some_record()).get());
  else
    world.run(RunFolder::create(path, some_record()).get(), rows_of_first + 1);
  world.stop_after_frames = 3;
  const Output part = world.run(RunFolder::open(path, RunFolder::Access::write).get());
  CHECK(part.rows == (whole_run ? 0 : 1));
  REQUIRE(part.frames.defined());
  CHECK(part.frames.size(1) == 5);  // of the first chunk
  CHECK(at::equal(part.frames, whole.frames.narrow(1, 0, part.frames.size(1))));
  world.stop_after_frames.reset();
  check_equal(whole, world.run(RunFolder::open(path, RunFolder::Access::write).get()));
}
