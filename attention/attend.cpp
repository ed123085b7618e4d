#include "attention/attend.h"

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "attention/stacked.h"
#include "base/cuda.h"
#include "base/error.h"

namespace longtake {
namespace {

bool prefers_cudnn(const at::Tensor& q, const at::Tensor& k) {
  const bool narrow = q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf;
  return narrow && q.size(-1) == 128 && q.size(-2) == k.size(-2) && !(at::GradMode::is_enabled() && q.requires_grad()) &&
         cuda::capability(q) == 90 && at::globalContext().userEnabledCuDNNSDP() && at::detail::getCUDAHooks().hasCuDNN();
}

// q [b, n, heads, width], k, v [b, rows, kv_heads, width] -> [b, n, heads, width].
at::Tensor attend_batch(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::optional<at::Tensor>& mask) {
  const at::Tensor Q = q.transpose(1, 2), K = k.transpose(1, 2), V = v.transpose(1, 2);
  if (!mask && prefers_cudnn(q, k))
    return std::get<0>(at::_scaled_dot_product_cudnn_attention(Q, K, V, {}, /*compute_log_sumexp=*/false)).transpose(1, 2);
  const bool grouped = q.size(2) != k.size(2);
  // LibTorch's kernels for float32 know no grouped heads: it would write out all weights of softmax.
  if (grouped && q.is_cuda() && q.scalar_type() == at::kFloat) {
    const int64_t share = q.size(2) / k.size(2);
    return at::scaled_dot_product_attention(Q, K.repeat_interleave(share, 1), V.repeat_interleave(share, 1), mask).transpose(1, 2);
  }
  return at::scaled_dot_product_attention(Q, K, V, mask, 0.0, false, {}, grouped).transpose(1, 2);
}

}  // namespace

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
  const int64_t rows = keys.end - keys.begin;
  std::optional<at::Tensor> mask;
  if (bias.defined()) {
    // cuDNN, as LibTorch calls it, reads two 16-bit values at once, and so one behind an odd number of them: there is memory for it.
    const at::Tensor room = at::constant_pad_nd(bias.narrow(0, keys.begin, rows).to(q.scalar_type()), {0, 1});
    mask = room.narrow(0, 0, rows).view({1, 1, 1, rows}).expand({1, 1, q.size(0), rows});
  }
  return attend_batch(q.unsqueeze(0), k.narrow(0, keys.begin, rows).unsqueeze(0), v.narrow(0, keys.begin, rows).unsqueeze(0), mask)
      .squeeze(0);
}

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return attend(q, k, v, KeyRange{0, k.size(0)}, {});
}

std::vector<at::Tensor> attend_together(std::span<const Sequence> sequences) {
  const bool biased = std::any_of(sequences.begin(), sequences.end(), [](const Sequence& s) { return s.bias.defined(); });
  if (sequences.size() > 1 && !biased) {
    const at::Tensor q = stacked(sequences, &Sequence::q), k = stacked(sequences, &Sequence::k), v = stacked(sequences, &Sequence::v);
    if (q.defined() && k.defined() && v.defined()) return attend_batch(q, k, v, {}).unbind(0);
  }
  std::vector<at::Tensor> out;
  for (const Sequence& s : sequences) out.push_back(attend(s.q, s.k, s.v, {0, s.k.size(0)}, s.bias));
  return out;
}

}  // namespace longtake
