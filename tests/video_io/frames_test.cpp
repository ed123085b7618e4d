#include "video_io/frames.h"

#include "base/error.h"
#include "tests/catch.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <limits>

using namespace longtake;

TEST_CASE("decoder output becomes 8-bit frames by truncation") {
  // -1, -0.5, 0, 0.5, 1 and what lies outside.
  const at::Tensor values = at::tensor({-1.0f, -0.5f, 0.0f, 0.5f, 1.0f, -7.0f, 7.0f, 0.999f});
  const at::Tensor expected = at::tensor({0, 63, 127, 191, 255, 0, 255, 254}).to(at::kByte);
  const at::Tensor video = values.view({1, 1, 2, 4}).expand({3, 2, 2, 4});
  const at::Tensor frames = to_frames(video);
  REQUIRE(frames.sizes() == at::IntArrayRef({2, 2, 4, 3}));
  CHECK(frames.is_contiguous());
  CHECK(frames.select(0, 1).select(2, 2).flatten().equal(expected));
  // bfloat16 holds these values exactly, but not their levels.
  CHECK(to_frames(video.narrow(3, 0, 3).to(at::kBFloat16)).equal(frames.narrow(2, 0, 3)));
}

TEST_CASE("channels, frames, rows and columns keep their places") {
  const at::Tensor video = at::arange(3 * 2 * 4 * 5, at::kFloat).view({3, 2, 4, 5}) / 60 - 1;
  const at::Tensor frames = to_frames(video);
  for (int64_t c = 0; c < 3; ++c)
    CHECK(frames[1][3][2][c].item<int>() == static_cast<int>((video[c][1][3][2].item<float>() / 2 + 0.5f) * 255));
}

TEST_CASE("all 256 levels survive the way to the encoder and back within truncation") {
  const at::Tensor frames = at::arange(256, at::kByte).view({1, 16, 16, 1}).expand({1, 16, 16, 3});
  const at::Tensor video = from_frames(frames);
  CHECK(video.sizes() == at::IntArrayRef({3, 1, 16, 16}));
  CHECK(video.min().item<float>() == -1.0f);
  CHECK(video.max().item<float>() == 1.0f);
  const at::Tensor lost = frames.to(at::kInt) - to_frames(video).to(at::kInt);
  CHECK(lost.min().item<int>() >= 0);
  CHECK(lost.max().item<int>() <= 1);
}

TEST_CASE("non-finite video is a numerical error") {
  at::Tensor video = at::zeros({3, 1, 2, 2});
  video[0][0][0][0] = std::numeric_limits<float>::quiet_NaN();
  try {
    to_frames(video);
    FAIL("accepted NaN");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::numerical);
  }
  CHECK_THROWS_AS(to_frames(at::zeros({4, 1, 2, 2})), Error);
  CHECK_THROWS_AS(from_frames(at::zeros({1, 2, 2, 3})), Error);
}
