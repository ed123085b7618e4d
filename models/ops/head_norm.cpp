#include "models/ops/head_norm.h"

#include <ATen/ops/empty.h>

#include "attention/rope.h"
#include "base/cuda.h"
#include "base/error.h"
#include "models/ops/cuda/head_norm.cuh"
#include "models/ops/norm.h"
#include "models/ops/row_checks.h"

namespace longtake {
namespace {

void check(const at::Tensor& x, const at::Tensor& rotations) {
  LONGTAKE_CHECK(x.dim() == 3 && is_row_dtype(x.scalar_type()), "expected heads [rows, heads, width] of a floating dtype, found [{}] {}",
                 fmt::join(x.sizes(), ", "), c10::toString(x.scalar_type()));
  if (!rotations.defined()) return;
  LONGTAKE_CHECK(rotations.dim() == 2 && rotations.size(0) == x.size(0) && rotations.size(1) % 2 == 0 && rotations.size(1) <= x.size(2) &&
                     rotations.scalar_type() == at::kFloat && rotations.device() == x.device(),
                 "expected rotations [{}, 2 * half] float32 on {} with 2 * half <= {}, found [{}] {} on {}", x.size(0), x.device().str(), x.size(2),
                 fmt::join(rotations.sizes(), ", "), c10::toString(rotations.scalar_type()), rotations.device().str());
}

bool takes(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias) {
  const int64_t step = 16 / static_cast<int64_t>(x.element_size());
  return cuda::runs_kernels(x) && cuda::head_fits(x.size(2)) && x.stride(2) == 1 && x.stride(0) % step == 0 && x.stride(1) % step == 0 &&
         aligned(x) && dense_aligned({gain, bias}) && !records_gradient({x, gain, bias});
}

bool takes(const at::Tensor& rotations) {
  return !rotations.defined() || (rotations.size(1) > 0 && rotations.size(1) % (2 * cuda::kHeadStep) == 0 && dense_aligned({rotations}));
}

}  // namespace

at::Tensor norm_heads(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias, double eps, const at::Tensor& rotations) {
  check(x, rotations);
  check_affine(gain, bias, x, x.size(2));
  if (!takes(x, gain, bias) || !takes(rotations)) return reference::norm_heads(x, gain, bias, eps, rotations);
  at::Tensor out = at::empty(x.sizes(), x.options());
  cuda::HeadNorm p;
  p.rows = x.size(0);
  p.heads = x.size(1);
  p.width = x.size(2);
  p.eps = static_cast<float>(eps);
  p.type = cuda::float_type(x);
  p.x = x.const_data_ptr();
  p.row_stride = x.stride(0);
  p.head_stride = x.stride(1);
  p.gain = gain.const_data_ptr<float>();
  p.bias = bias.const_data_ptr<float>();
  p.out = out.data_ptr();
  if (rotations.defined()) {
    p.rotations = rotations.const_data_ptr<float>();
    p.half = rotations.size(1) / 2;
  }
  const cuda::Launch launch(x, "head_norm");
  launch.check(cuda::head_norm(p, launch.stream()));
  return out;
}

namespace reference {

at::Tensor norm_heads(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias, double eps, const at::Tensor& rotations) {
  at::Tensor normed = layer_norm(x, gain, bias, eps);
  if (rotations.defined()) normed = apply_rope_halves(normed, rotations);
  return normed.to(x.scalar_type());
}

}  // namespace reference
}  // namespace longtake
