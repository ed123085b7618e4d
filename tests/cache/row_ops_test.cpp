// Merging rows and measuring motion against plain ATen, on ragged shapes and every device.
#include "cache/row_ops.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>

#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"

using namespace longtake;

namespace {

struct Shape {
  int64_t tokens, dim;
};
const std::vector<Shape> kShapes{{1, 8}, {7, 64}, {33, 264}, {130, 1536}, {5, 5120}, {9, 5}};  // the last one is no kernel's

CachedRows copy_of(const CachedRows& c) {
  const auto clone = [](const at::Tensor& x) { return x.defined() ? x.clone() : x; };
  return {clone(c.residual), clone(c.level), clone(c.before), clone(c.before_level)};
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) { return a.defined() == b.defined() && (!a.defined() || at::equal(a, b)); }

}  // namespace

TEST_CASE("merging rows gives the bits of plain operations, and the same distances") {
  for (const auto& device : test_devices())
    for (const auto dtype : test_dtypes())
      for (const Shape& shape : kShapes)
        for (const double share : {0.0, 0.4, 1.0})
          for (const bool predicts : {false, true})
            for (const bool two : {predicts, true}) {
              INFO(shape.tokens << " x " << shape.dim << " " << c10::toString(dtype) << ", " << share << " computed, predicts " << predicts << ", two kept "
                                << two << ", on " << device.str());
              const auto typed = at::TensorOptions().dtype(dtype).device(device), floats = typed.dtype(at::kFloat);
              const auto rows = [&](int64_t count) { return at::randn({count, shape.dim}, floats).to(dtype); };
              CachedRows cached{rows(shape.tokens), {}, {}, {}};
              if (two) {
                cached.level = at::rand({shape.tokens}, floats);
                cached.before = rows(shape.tokens);
                cached.before_level = cached.level + at::rand({shape.tokens}, floats);
                cached.before_level[0] = cached.level[0];  // a token that was computed once
              }
              RowMerge merge{.predicts = predicts, .now = 0.3, .clip = 1.5};
              if (share > 0) {
                merge.rows = at::nonzero(at::rand({shape.tokens}, floats) < share).flatten();
                merge.fresh = rows(merge.rows.size(0));
              }
              const at::Tensor embedded = rows(shape.tokens);
              for (const bool wants : {false, true}) {
                CachedRows ours = copy_of(cached), theirs = copy_of(cached);
                at::Tensor got, want;
                CHECK(at::equal(merge_rows(embedded, ours, merge, wants ? &got : nullptr),
                                reference::merge_rows(embedded, theirs, merge, wants ? &want : nullptr)));
                CHECK(same_bits(ours.residual, theirs.residual));
                CHECK(same_bits(ours.level, theirs.level));
                CHECK(same_bits(ours.before, theirs.before));
                CHECK(same_bits(ours.before_level, theirs.before_level));
                REQUIRE(got.defined() == wants);
                if (wants && want.norm().item<double>() > 0) CHECK(test::relative_error(got, want) < 1e-6);
                if (wants && share == 0) CHECK(got.abs().max().item<double>() == 0);
              }
            }
}

TEST_CASE("motion of packed frames is that of plain operations") {
  for (const auto& device : test_devices())
    for (const auto dtype : test_dtypes())
      for (const Shape& shape : kShapes)
        for (const int64_t frames : {1, 2, 5})
          for (const bool known : {false, true})
            for (const bool repeats : {false, true}) {
              INFO(frames << " frames of " << shape.tokens << " x " << shape.dim << " " << c10::toString(dtype) << ", before " << known << ", repeats "
                          << repeats << ", on " << device.str());
              const auto floats = at::TensorOptions().dtype(at::kFloat).device(device);
              const at::Tensor hidden = at::randn({frames, shape.tokens, shape.dim}, floats).to(dtype);
              const at::Tensor before = known ? at::randn({shape.tokens, shape.dim}, floats).to(dtype) : at::Tensor();
              const at::Tensor got = motion_rows(hidden, before, repeats), want = reference::motion_rows(hidden, before, repeats);
              CHECK(got.sizes() == want.sizes());
              CHECK(test::relative_error(got, want) < 1e-5);
              if (!known && repeats && frames > 1) CHECK(at::equal(got[0], got[1]));
              if (!known && (!repeats || frames == 1)) CHECK(got[0].eq(1).all().item<bool>());
            }
}

TEST_CASE("rows of other shapes are refused with what was found") {
  CachedRows cached{at::randn({4, 8}), {}, {}, {}};
  const auto merge = [&](const at::Tensor& embedded, const RowMerge& m) { return merge_rows(embedded, cached, m); };
  CHECK_NOTHROW(merge(at::randn({4, 8}), {}));
  CHECK_THROWS_WITH(merge(at::randn({5, 8}), {}), Catch::Matchers::ContainsSubstring("expected the residuals dense [5, 8]"));
  CHECK_THROWS_WITH(merge(at::randn({4, 8}), {.predicts = true}), Catch::Matchers::ContainsSubstring("two residuals"));
  CHECK_THROWS_WITH(merge(at::randn({4, 8}), {.fresh = at::randn({2, 8})}), Catch::Matchers::ContainsSubstring("with their tokens"));
  CHECK_THROWS_WITH(motion_rows(at::randn({4, 8}), {}, true), Catch::Matchers::ContainsSubstring("[frames, plane, dim]"));
}
