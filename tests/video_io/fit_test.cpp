// Frames cut and scaled to another size.
#include "video_io/fit.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;

TEST_CASE("frames of the right size stay as they are") {
  const at::Tensor clip = smooth_clip(2, 32, 48);
  const FrameFit fit(32, 48, 32, 48);
  CHECK(fit.note().empty());
  CHECK(at::equal(fit(clip), clip));
}

TEST_CASE("other shapes are cut in the middle, to the pixel where nothing is scaled") {
  const at::Tensor clip = smooth_clip(2, 32, 48);
  const FrameFit fit(32, 48, 32, 32);
  CHECK(fit.note() == "32x48 cut to 32x32");
  CHECK(at::equal(fit(clip), clip.narrow(2, 8, 32)));
  CHECK(FrameFit(300, 200, 128, 128).note() == "300x200 cut to 200x200, scaled to 128x128");
  CHECK(FrameFit(64, 64, 128, 128).note() == "64x64 scaled to 128x128");
}

TEST_CASE("scaling keeps a smooth picture, and any size gives the one that was asked for") {
  const at::Tensor clip = smooth_clip(1, 64, 64);
  const at::Tensor there_and_back = FrameFit(128, 128, 64, 64)(FrameFit(64, 64, 128, 128)(clip));
  CHECK((there_and_back.to(at::kFloat) - clip.to(at::kFloat)).abs().mean().item<float>() < 1);
  for (const auto& [h, w] : std::vector<std::pair<int, int>>{{1, 1}, {1, 500}, {500, 1}, {17, 31}, {200, 100}}) {
    const at::Tensor grey = at::full({1, h, w, 3}, 90, at::kByte);
    const at::Tensor out = FrameFit(h, w, 32, 48)(grey);
    CHECK(out.sizes() == at::IntArrayRef({1, 32, 48, 3}));
    CHECK(at::equal(out, at::full({1, 32, 48, 3}, 90, at::kByte)));
  }
}
