#include "models/ops/gated_norm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <numeric>

#include "base/cuda.h"
#include "base/error.h"
#include "models/ops/cuda/gated_norm.cuh"
#include "models/ops/norm.h"
#include "models/ops/row_checks.h"

namespace longtake {
namespace {

void check_rows(const at::Tensor& x) {
  LONGTAKE_CHECK(x.dim() == 2 && is_row_dtype(x.scalar_type()), "expected rows [n, D] of a floating dtype, found [{}] {}", fmt::join(x.sizes(), ", "),
                 c10::toString(x.scalar_type()));
}

void check(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gates, const std::vector<int64_t>& rows) {
  check_rows(x);
  LONGTAKE_CHECK(y.sizes() == x.sizes() && y.device() == x.device() && (y.scalar_type() == x.scalar_type() || y.scalar_type() == at::kFloat),
                 "expected an addend [{}] {} or float32 on {}, found [{}] {} on {}", fmt::join(x.sizes(), ", "), c10::toString(x.scalar_type()),
                 x.device().str(), fmt::join(y.sizes(), ", "), c10::toString(y.scalar_type()), y.device().str());
  const auto n = static_cast<int64_t>(rows.size());
  LONGTAKE_CHECK(gates.dim() == 2 && gates.size(0) == n && gates.size(1) == x.size(1) && gates.scalar_type() == at::kFloat &&
                     gates.device() == x.device(),
                 "expected gates [{}, {}] float32 on {}, found [{}] {} on {}", n, x.size(1), x.device().str(), fmt::join(gates.sizes(), ", "),
                 c10::toString(gates.scalar_type()), gates.device().str());
  const int64_t total = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  LONGTAKE_CHECK(total == x.size(0), "expected gates for {} rows, found them for {}", x.size(0), total);
}

bool takes(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias) {
  return cuda::runs_kernels(x) && cuda::norm_fits(x.size(1)) && !records_gradient({x, gain, bias}) && dense_aligned({x, gain, bias});
}

at::Tensor run(cuda::GatedNorm p, const at::Tensor& like, const at::Tensor& y, const at::Tensor& gain, const at::Tensor& bias, double eps) {
  at::Tensor out = at::empty(like.sizes(), like.options());
  p.rows = like.size(0);
  p.width = like.size(1);
  p.eps = static_cast<float>(eps);
  p.type = cuda::float_type(like);
  p.wide = y.scalar_type() == at::kFloat;
  p.y = y.const_data_ptr();
  p.gain = gain.const_data_ptr<float>();
  p.bias = bias.const_data_ptr<float>();
  p.out = out.data_ptr();
  const cuda::Launch launch(like, "gated_norm");
  launch.check(cuda::gated_norm(p, launch.stream()));
  return out;
}

}  // namespace

at::Tensor norm_rows(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias, double eps) {
  check_rows(x);
  check_affine(gain, bias, x, x.size(1));
  if (!takes(x, gain, bias)) return reference::norm_rows(x, gain, bias, eps);
  return run({}, x, x, gain, bias, eps);
}

at::Tensor add_gated_norm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gates, const std::vector<int64_t>& rows,
                          const at::Tensor& gain, const at::Tensor& bias, double eps) {
  check(x, y, gates, rows);
  check_affine(gain, bias, x, x.size(1));
  const bool fits = !rows.empty() && rows.size() <= cuda::kGateRuns && dense_aligned({y}) && gates.stride(1) == 1 && gates.stride(0) % 4 == 0 &&
                    aligned(gates) && !records_gradient({y, gates});
  if (!fits || !takes(x, gain, bias)) return reference::add_gated_norm(x, y, gates, rows, gain, bias, eps);
  cuda::GatedNorm p;
  p.x = x.const_data_ptr();
  p.gates = gates.const_data_ptr<float>();
  p.gate_stride = gates.stride(0);
  p.runs = static_cast<int>(rows.size());
  std::partial_sum(rows.begin(), rows.end(), p.ends);
  return run(p, x, y, gain, bias, eps);
}

namespace reference {

at::Tensor norm_rows(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias, double eps) {
  return layer_norm(x, gain, bias, eps).to(x.scalar_type());
}

at::Tensor add_gated_norm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gates, const std::vector<int64_t>& rows,
                          const at::Tensor& gain, const at::Tensor& bias, double eps) {
  const at::Tensor gated = FrameModulation(gates.unsqueeze(1), rows).gate(y, 0);
  return (layer_norm(gated, gain, bias, eps) + x.to(at::kFloat)).to(x.scalar_type());
}

}  // namespace reference
}  // namespace longtake
