// Which prompt a MAGI-1 chunk follows: counted from the first frame that is shown, whatever is given.
#include "runtime/magi_prompts.h"

#include "base/error.h"
#include "runtime/magi_recipe.h"
#include "tests/catch.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

using Ints = std::vector<int>;

// Chunks of 6 latent frames, 24 frames: a second at 24 fps.
magi::VideoSize size_of(int frames, int given) {
  magi::RunConfig run;
  run.frames = frames, run.temporal_downsample = 4, run.chunk_frames = 6;
  return magi::VideoSize::of(run, given);
}

Ints chosen(const std::string& list, const magi::VideoSize& size, int missing = 0) {
  return prompts_of_chunks(parse_timeline(list, "list"), size, missing, 24);
}

struct Request {
  MagiRequest request;
  std::string note;
};

Request request_of(const std::vector<std::string>& set) {
  const Recipe recipe = find_recipe("magi-1-4.5b-distill", default_search());
  OptionSet options;
  options.apply_recipe(recipe.defaults);
  for (const std::string& assignment : set) options.set(assignment);
  Request out;
  out.request = make_magi_request(recipe, options.values(), &out.note);
  return out;
}

std::string told(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::usage);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the prompt that covers a MAGI-1 chunk's middle holds") {
  const magi::VideoSize text = size_of(96, 0);
  CHECK(chosen("0-: a", text) == Ints{0, 0, 0, 0});
  CHECK(chosen("0-2: a\n2-3: b\n3-: c", text) == Ints{0, 0, 1, 2});
  // Chunk 2 has its middle at 1.5 s; what begins there holds.
  CHECK(chosen("0-1.5: a\n1.5-: b", text) == Ints{0, 1, 1, 1});
  CHECK(chosen("0-1.51: a\n1.51-: b", text) == Ints{0, 0, 1, 1});
  CHECK(chosen("0-1.6: a\n1.6-2.4: b\n2.4-: c", text) == Ints{0, 0, 2, 2});  // b covers no middle
}

TEST_CASE("given frames count for MAGI-1's prompts where they are shown") {
  // A picture is the first latent frame of the first chunk.
  CHECK(chosen("0-1: a\n1-: b", size_of(92, 1)) == Ints{0, 1, 1, 1});
  // 8 latent frames of a video: a chunk of them alone, which follows no prompt, and a third of the next, whose 16 new frames have their
  // middle at a third of a second.
  const magi::VideoSize video = size_of(64, 8);
  REQUIRE(video.chunks == 4);
  CHECK(chosen("0-0.32: a\n0.32-1: b\n1-: c", video) == Ints{1, 2, 2});
  CHECK(chosen("0-0.34: a\n0.34-1: b\n1-: c", video) == Ints{0, 2, 2});
  // Of Wan's VAE the first latent frame is one frame: 21, 45, ... frames are shown. Behind a video all latent frames are four.
  CHECK(chosen("0-0.44: a\n0.44-: b", size_of(96, 0), 3) == Ints{0, 1, 1, 1});
  CHECK(chosen("0-0.43: a\n0.43-1.37: b\n1.37-: c", size_of(96, 0), 3) == Ints{1, 2, 2, 2});
  CHECK(chosen("0-0.34: a\n0.34-1: b\n1-: c", video, 3) == Ints{0, 2, 2});
}

TEST_CASE("MAGI-1's lists of prompts are checked against the run's length, which given frames change") {
  CHECK(request_of({"prompts=0-2: a\n2-4: b", "video.duration=4"}).request.prompt_of == Ints{0, 0, 1, 1});
  // 3.6 s become 4 s, 3.4 s become 3 s.
  CHECK(request_of({"prompts=0-2: a\n2-3.6: b", "video.duration=3.6"}).request.prompt_of == Ints{0, 0, 1, 1});
  CHECK(request_of({"prompts=0-2: a\n2-3.4: b", "video.duration=3.4"}).request.prompt_of == Ints{0, 0, 1});
  CHECK_THAT(told([] { request_of({"prompts=0-2: a\n2-5: b", "video.duration=4"}); }),
             ContainsSubstring("line 2: the range ends at 5 s, and the video at 4.00 s"));
  CHECK_THAT(told([] { request_of({"prompts=0-2: a\n2-3: b", "video.duration=4"}); }), ContainsSubstring("leaves a gap"));
  CHECK_THAT(told([] { request_of({"prompts=0-4: a\n4-: b", "video.duration=4"}); }), ContainsSubstring("begins at 4 s"));
  // Four seconds behind 32 frames of a video: 8 latent frames and 22 or 28 end a chunk.
  const Request behind = request_of({"prompts=0-2: a\n2-: b", "conditioning.video=x.mp4", "conditioning.context=32", "conditioning.add=3.6"});
  CHECK(behind.request.prompt_of == Ints{0, 0, 1, 1});
  CHECK_THAT(behind.note, ContainsSubstring("rounded to 88 frames"));
  CHECK(request_of({"prompts=0-2: a\n2-: b", "conditioning.image=x.png"}).request.prompt_of == Ints{0, 0, 1, 1});
  const Request unused = request_of({"prompts=0-1.6: a\n1.6-2.4: b\n2.4-: c"});
  CHECK_THAT(unused.note, ContainsSubstring("prompt 2 has no effect: no chunk of 24 frames has its middle between 1.6 and 2.4 s"));
  CHECK(unused.request.prompts.size() == 3);
}
