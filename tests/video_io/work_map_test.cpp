#include "video_io/work_map.h"

#include "runtime/generate.h"

#include "tests/catch.h"

#include <ATen/ops/tensor.h>

using namespace longtake;

namespace {

// Two windows of 3 latent frames with an overlap of 1, chunks of 1; 2x2 tokens a frame; 4 steps.
GenerateSettings settings() {
  GenerateSettings s;
  WindowRequest request;
  request.frames = 17, request.window_frames = 9, request.overlap_frames = 1, request.chunk = 1;
  s.plan = plan_windows(request);
  s.height = s.width = 32;
  s.steps = 4;
  return s;
}

DecisionRecord record(int window, int chunk, int step, TokenSet tokens, int branch = 0) {
  DecisionRecord r{window, 0, chunk, branch, step, {}, tokens.count(1, 4), 4};
  r.decision.tokens = std::move(tokens);
  return r;
}

TokenSet column(int64_t position) { return TokenSet::columns(at::tensor({position}, at::kLong)); }

}  // namespace

TEST_CASE("shares by step are over chunks, windows and branches") {
  WorkMap map(run_layout(settings()));
  map.add(record(0, 0, 0, TokenSet::all()));
  map.add(record(0, 1, 0, TokenSet::none()));
  map.add(record(1, 1, 0, TokenSet::none(), 1));
  map.add(record(0, 0, 3, column(2)));
  const std::vector<double> share = map.by_step();
  REQUIRE(share.size() == 4);
  CHECK(std::abs(share[0] - 1.0 / 3) < 1e-12);
  CHECK(share[1] == 0);
  CHECK(share[3] == 0.25);
}

TEST_CASE("shares by place lie at the latent frame of the video") {
  WorkMap map(run_layout(settings()));
  for (int step = 0; step < 4; ++step) {
    map.add(record(0, 2, step, step < 2 ? TokenSet::all() : column(3)));
    map.add(record(1, 1, step,
                   step == 0   ? TokenSet::all()
                   : step == 1 ? TokenSet::list(at::tensor({int64_t{1}}, at::kLong))
                               : TokenSet::none()));
  }
  const at::Tensor place = map.by_place();
  REQUIRE(place.sizes() == at::IntArrayRef({5, 2, 2}));
  CHECK(place[2][0][0].item<float>() == 0.5f);
  CHECK(place[2][1][1].item<float>() == 1.0f);
  // Window 1 repeats latent frame 2 as its prefix: its chunk 1 is latent frame 3.
  CHECK(place[3][0][0].item<float>() == 0.25f);
  CHECK(place[3][0][1].item<float>() == 0.5f);
  CHECK(place[4].sum().item<float>() == 0);
}

TEST_CASE("context is left out: prefix chunks and chunks past their last step") {
  WorkMap map(run_layout(settings()));
  map.add(record(1, 0, 4, TokenSet::all()));
  map.add(record(1, 0, 0, TokenSet::all()));
  map.add(record(0, 1, 4, TokenSet::all()));
  CHECK(map.by_place().sum().item<float>() == 0);
  for (const double share : map.by_step()) CHECK(share == 0);
}

TEST_CASE("frames and latent frames") {
  CHECK(latent_of_frame(0) == 0);
  CHECK(latent_of_frame(1) == 1);
  CHECK(latent_of_frame(4) == 1);
  CHECK(latent_of_frame(5) == 2);
  CHECK(latent_of_frame(96) == 24);
  CHECK(latent_of_frame(3, 0) == 0);
  CHECK(latent_of_frame(4, 0) == 1);
}
