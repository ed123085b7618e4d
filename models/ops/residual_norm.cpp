#include "models/ops/residual_norm.h"

#include <ATen/TensorOperators.h>

#include "base/cuda.h"
#include "base/error.h"
#include "models/ops/cuda/residual_norm.cuh"
#include "models/ops/norm.h"
#include "models/ops/row_checks.h"
#include "quant/fp8.h"

namespace longtake {
namespace {

void check_rows(const at::Tensor& x, const at::Tensor& like, const char* name) {
  LONGTAKE_CHECK(x.dim() == 2 && x.sizes() == like.sizes() && x.is_contiguous() && x.device() == like.device() &&
                     is_row_dtype(x.scalar_type()),
                 "expected {} contiguous [{}, {}] of a floating dtype on {}, found [{}] on {}", name, like.size(0),
                 like.size(-1), like.device().str(), fmt::join(x.sizes(), ", "), x.device().str());
}

void check_vectors(const RowVectors& v, const at::Tensor& x, const char* name) {
  LONGTAKE_CHECK(v.table.dim() == 2 && v.table.size(1) == x.size(1) && v.table.scalar_type() == at::kFloat &&
                     v.table.device() == x.device() && v.table.stride(1) == 1 && v.table.size(0) > 0,
                 "expected {} [n, {}] float32 with dense rows on {}, found [{}]", name, x.size(1), x.device().str(),
                 fmt::join(v.table.sizes(), ", "));
  LONGTAKE_CHECK(!v.index.defined() || (v.index.dim() == 1 && v.index.size(0) == x.size(0) && v.index.is_contiguous() &&
                                        v.index.scalar_type() == at::kInt && v.index.device() == x.device()),
                 "expected the index of {} to be int32 [{}] on {}", name, x.size(0), x.device().str());
}

void check_norm(const RowNorm& norm, const at::Tensor& x) {
  check_vectors(norm.scale, x, "scale");
  check_vectors(norm.shift, x, "shift");
  LONGTAKE_CHECK(norm.scale.table.size(0) == norm.shift.table.size(0) &&
                     norm.scale.table.stride(0) == norm.shift.table.stride(0) &&
                     norm.scale.index.is_same(norm.shift.index),
                 "expected scale and shift of one layout and one index");
}

void check_sum(const at::Tensor& z, const at::Tensor& y, const RowVectors& gate) {
  check_rows(z, z, "the residual stream");
  check_rows(y, z, "the addend");
  LONGTAKE_CHECK(z.scalar_type() == at::kFloat, "expected a float32 residual stream");
  if (gate.table.defined()) check_vectors(gate, z, "gate");
}

void check_sum(const at::Tensor& out, const at::Tensor& z, const at::Tensor& y, const RowVectors& gate) {
  check_sum(z, y, gate);
  check_rows(out, z, "the result");
  LONGTAKE_CHECK(out.scalar_type() == y.scalar_type(), "expected a result of the addend's dtype");
}

void check_rounded(const Fp8Rows& out, const at::Tensor& z) {
  LONGTAKE_CHECK(out.values.sizes() == z.sizes() && out.values.is_contiguous() && out.values.scalar_type() == at::kFloat8_e4m3fn &&
                     out.values.device() == z.device(),
                 "expected dense e4m3 rows [{}] on {}", fmt::join(z.sizes(), ", "), z.device().str());
  LONGTAKE_CHECK(out.scales.dim() == 1 && out.scales.size(0) == z.size(0) && out.scales.is_contiguous() &&
                     out.scales.scalar_type() == at::kFloat && out.scales.device() == z.device(),
                 "expected {} dense float32 scales on {}", z.size(0), z.device().str());
}

// Whether the kernel takes both: it has one index.
bool one_index(const RowVectors& gate, const RowNorm& norm) {
  return !gate.table.defined() || !gate.index.defined() || !norm.scale.index.defined() || gate.index.is_same(norm.scale.index);
}

at::Tensor rows_of(const RowVectors& v) {
  return v.index.defined() ? v.table.index_select(0, v.index) : v.table.narrow(0, 0, 1);
}

at::Tensor normalized(const at::Tensor& x, const RowNorm& norm) {
  const at::Tensor scale = rows_of(norm.scale);
  return layer_norm(x, norm.eps) * (norm.modulates ? scale + 1 : scale) + rows_of(norm.shift);
}

void add(at::Tensor& z, const at::Tensor& y, const RowVectors& gate) {
  const at::Tensor wide = y.to(at::kFloat);
  z.add_(gate.table.defined() ? wide * rows_of(gate) : wide);
}

// 16-byte accesses: whole rows of a multiple of 8 values, from an aligned start.
bool fits(const at::Tensor& x) {
  return cuda::row_fits(x.size(1)) && aligned(x);
}
bool fits(const RowVectors& v) { return !v.table.defined() || (fits(v.table) && v.table.stride(0) % 4 == 0); }

cuda::ResidualNorm kernel_arguments(const at::Tensor& x, const RowNorm* norm) {
  cuda::ResidualNorm p;
  p.rows = x.size(0);
  p.width = x.size(1);
  p.x = x.data_ptr();
  if (norm) {
    p.eps = static_cast<float>(norm->eps);
    p.scale = norm->scale.table.const_data_ptr<float>();
    p.shift = norm->shift.table.const_data_ptr<float>();
    p.one = norm->modulates ? 1 : 0;
    p.norm_stride = norm->scale.index.defined() ? norm->scale.table.stride(0) : 0;
    if (norm->scale.index.defined()) p.index = norm->scale.index.const_data_ptr<int32_t>();
  }
  return p;
}

// `scales` where `out` is e4m3.
void run_sum(const at::Tensor& out, const at::Tensor& scales, at::Tensor& z, const at::Tensor& y, const RowVectors& gate, const RowNorm* norm) {
  cuda::ResidualNorm p = kernel_arguments(z, norm);
  p.type = cuda::float_type(y);
  p.y = y.const_data_ptr();
  if (gate.table.defined()) {
    p.gate = gate.table.const_data_ptr<float>();
    p.gate_stride = gate.index.defined() ? gate.table.stride(0) : 0;
    if (gate.index.defined()) p.index = gate.index.const_data_ptr<int32_t>();
  }
  p.out = out.data_ptr();
  if (scales.defined()) p.scales = scales.data_ptr<float>();
  const cuda::Launch launch(z, "residual_norm");
  launch.check(cuda::residual_norm(p, launch.stream()));
}

}  // namespace

RowNorm RowNorm::modulation(const at::Tensor& vectors, const at::Tensor& index, int64_t shift, int64_t scale,
                            double eps) {
  return {{vectors.select(1, scale), index}, {vectors.select(1, shift), index}, true, eps};
}

RowNorm RowNorm::affine(const at::Tensor& weight, const at::Tensor& bias, double eps) {
  return {{weight.unsqueeze(0), {}}, {bias.unsqueeze(0), {}}, false, eps};
}

void normalize_rows(at::Tensor& out, const at::Tensor& x, const RowNorm& norm) {
  check_rows(x, x, "the rows");
  check_rows(out, x, "the result");
  check_norm(norm, x);
  LONGTAKE_CHECK(x.scalar_type() == at::kFloat || out.scalar_type() == at::kFloat,
                 "expected float32 rows or a float32 result");
  if (!cuda::runs_kernels(x) || !fits(x) || !fits(out) || !fits(norm.scale) || !fits(norm.shift))
    return reference::normalize_rows(out, x, norm);
  cuda::ResidualNorm p = kernel_arguments(x, &norm);
  p.narrow_input = x.scalar_type() != at::kFloat;
  p.type = cuda::float_type(p.narrow_input ? x : out);
  p.out = out.data_ptr();
  const cuda::Launch launch(x, "residual_norm");
  launch.check(cuda::residual_norm(p, launch.stream()));
}

void add_and_normalize(at::Tensor& out, at::Tensor& z, const at::Tensor& y, const RowVectors& gate,
                       const RowNorm& norm) {
  check_sum(out, z, y, gate);
  check_norm(norm, z);
  if (!cuda::runs_kernels(z) || !one_index(gate, norm) || !fits(z) || !fits(y) || !fits(out) || !fits(gate) || !fits(norm.scale) ||
      !fits(norm.shift))
    return reference::add_and_normalize(out, z, y, gate, norm);
  run_sum(out, {}, z, y, gate, &norm);
}

void add_and_normalize(Fp8Rows& out, at::Tensor& z, const at::Tensor& y, const RowVectors& gate, const RowNorm& norm) {
  check_sum(z, y, gate);
  check_rounded(out, z);
  check_norm(norm, z);
  if (!cuda::runs_kernels(z) || !one_index(gate, norm) || !fits(z) || !fits(y) || !fits(out.values) || !fits(gate) || !fits(norm.scale) ||
      !fits(norm.shift))
    return reference::add_and_normalize(out, z, y, gate, norm);
  run_sum(out.values, out.scales, z, y, gate, &norm);
}

void add_rows(at::Tensor& out, at::Tensor& z, const at::Tensor& y, const RowVectors& gate) {
  check_sum(out, z, y, gate);
  if (!cuda::runs_kernels(z) || !fits(z) || !fits(y) || !fits(out) || !fits(gate))
    return reference::add_rows(out, z, y, gate);
  run_sum(out, {}, z, y, gate, nullptr);
}

namespace reference {

void normalize_rows(at::Tensor& out, const at::Tensor& x, const RowNorm& norm) { out.copy_(normalized(x, norm)); }

void add_and_normalize(at::Tensor& out, at::Tensor& z, const at::Tensor& y, const RowVectors& gate,
                       const RowNorm& norm) {
  add(z, y, gate);
  out.copy_(normalized(z, norm));
}

void add_and_normalize(Fp8Rows& out, at::Tensor& z, const at::Tensor& y, const RowVectors& gate, const RowNorm& norm) {
  add(z, y, gate);
  const Fp8Rows rows = reference::quantise_rows(normalized(z, norm));
  out.values.copy_(rows.values);
  out.scales.copy_(rows.scales);
}

void add_rows(at::Tensor& out, at::Tensor& z, const at::Tensor& y, const RowVectors& gate) {
  add(z, y, gate);
  out.copy_(z);
}

}  // namespace reference
}  // namespace longtake
