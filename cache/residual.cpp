#include "cache/residual.h"

#include <ATen/TensorOperators.h>

#include "base/error.h"

namespace longtake {

at::Tensor ResidualCache::merge(int chunk, int branch, const at::Tensor& embedded, const TokenSet& set,
                                const at::Tensor& fresh, int64_t frames, int64_t plane) {
  at::Tensor& residual = residuals_[{chunk, branch}];
  if (set.is_all()) {
    residual = fresh - embedded;
    return fresh;
  }
  LONGTAKE_CHECK(residual.defined(), "chunk {} has no residual to reuse: its first step must be computed", chunk);
  at::Tensor hidden = embedded + residual;
  if (set.is_none()) return hidden;
  const at::Tensor rows = set.indices(frames, plane, embedded.device());
  hidden.index_copy_(0, rows, fresh);
  residual.index_copy_(0, rows, fresh - embedded.index_select(0, rows));
  return hidden;
}

}  // namespace longtake
