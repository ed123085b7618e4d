#include "attention/attend.h"

#include <ATen/ops/scaled_dot_product_attention.h>

#include "base/error.h"

namespace longtake {

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, KeyRange keys, const at::Tensor& bias) {
  LONGTAKE_CHECK(q.dim() == 3 && k.dim() == 3 && v.dim() == 3,
                 "expected q, k, v of 3 dimensions [tokens, heads, width], found {}, {}, {}", q.dim(), k.dim(), v.dim());
  LONGTAKE_CHECK(k.sizes() == v.sizes(), "expected k and v of one shape, found {} and {} rows", k.size(0), v.size(0));
  LONGTAKE_CHECK(q.size(2) == k.size(2) && q.size(1) % k.size(1) == 0,
                 "expected equal widths and query heads a multiple of key heads, found widths {} and {}, heads {} and {}",
                 q.size(2), k.size(2), q.size(1), k.size(1));
  LONGTAKE_CHECK(q.scalar_type() == k.scalar_type() && k.scalar_type() == v.scalar_type(),
                 "expected one dtype for q, k, v");
  LONGTAKE_CHECK(0 <= keys.begin && keys.begin < keys.end && keys.end <= k.size(0),
                 "expected a non-empty key range within {} rows, found [{}, {})", k.size(0), keys.begin, keys.end);
  LONGTAKE_CHECK(!bias.defined() || (bias.dim() == 1 && bias.size(0) == k.size(0) && bias.is_floating_point()),
                 "expected one floating-point bias for each of {} keys, found {} dimensions and {} values", k.size(0), bias.dim(),
                 bias.numel());
  auto heads_first = [](const at::Tensor& x) { return x.transpose(0, 1).unsqueeze(0); };  // [1, heads, rows, width]
  const int64_t rows = keys.end - keys.begin;
  std::optional<at::Tensor> mask;
  if (bias.defined()) mask = bias.narrow(0, keys.begin, rows).to(q.scalar_type()).view({1, 1, 1, rows}).expand({1, 1, q.size(0), rows});
  const bool grouped = q.size(1) != k.size(1);
  const at::Tensor out =
      at::scaled_dot_product_attention(heads_first(q), heads_first(k.narrow(0, keys.begin, rows)),
                                       heads_first(v.narrow(0, keys.begin, rows)), mask, 0.0, false, {}, grouped);
  return out.squeeze(0).transpose(0, 1);
}

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return attend(q, k, v, KeyRange{0, k.size(0)}, {});
}

}  // namespace longtake
