// Latents as rows of patches and back.
#include "models/ops/patches.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "tests/catch.h"

using namespace longtake;

TEST_CASE("a row of patches is what its token stands for, and rows go back to latents") {
  const at::Tensor latents = at::arange(3 * 2 * 4 * 6, at::kFloat).view({3, 2, 4, 6});
  const at::Tensor rows = patch_rows(latents);
  REQUIRE(rows.sizes() == at::IntArrayRef({2 * 2 * 3, 12}));
  int64_t token = 0;
  for (int64_t f = 0; f < 2; ++f)
    for (int64_t i = 0; i < 2; ++i)
      for (int64_t j = 0; j < 3; ++j)
        CHECK(at::equal(rows[token++], latents.select(1, f).narrow(1, 2 * i, 2).narrow(2, 2 * j, 2).flatten()));
  CHECK(at::equal(from_patch_rows(rows, 2, 4, 6), latents));
  CHECK_THROWS_AS(patch_rows(at::zeros({3, 2, 5, 6})), Error);
  CHECK_THROWS_AS(from_patch_rows(rows, 2, 4, 4), Error);
}
