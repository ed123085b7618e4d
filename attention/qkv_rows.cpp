#include "attention/qkv_rows.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/rms_norm.h>

#include "attention/cuda/qkv_rows.cuh"
#include "attention/rope.h"
#include "base/cuda.h"
#include "base/error.h"

namespace longtake {
namespace {

constexpr float kE4m3Max = 448.0f;

void check_like(const at::Tensor& x, const at::Tensor& like, at::ScalarType dtype, const std::vector<int64_t>& sizes, const char* name) {
  LONGTAKE_CHECK(x.sizes() == sizes && x.is_contiguous() && x.scalar_type() == dtype && x.device() == like.device(),
                 "expected {} contiguous [{}] {} on {}, found [{}] {} on {}", name, fmt::join(sizes, ", "), c10::toString(dtype),
                 like.device().str(), fmt::join(x.sizes(), ", "), c10::toString(x.scalar_type()), x.device().str());
}

void check_like(const at::Tensor& x, const at::Tensor& like, const std::vector<int64_t>& sizes, const char* name) {
  check_like(x, like, like.scalar_type(), sizes, name);
}

void check_index(const at::Tensor& index, const at::Tensor& rows, const char* name) {
  LONGTAKE_CHECK(index.dim() == 1 && index.size(0) == rows.size(0) && index.is_contiguous() &&
                     index.scalar_type() == at::kInt && index.device() == rows.device(),
                 "expected {} int32 [{}] on {}, found [{}] {}", name, rows.size(0), rows.device().str(),
                 fmt::join(index.sizes(), ", "), c10::toString(index.scalar_type()));
}

void check(const at::Tensor& q, const KvRows& store, const at::Tensor& qkv, const at::Tensor& position,
           const QkNorm& norm) {
  LONGTAKE_CHECK(q.dim() == 3 && qkv.dim() == 2 && store.k.dim() == 3,
                 "expected q and keys of 3 dimensions and qkv of 2, found {}, {}, {}", q.dim(), store.k.dim(),
                 qkv.dim());
  const int64_t rows = qkv.size(0), heads = q.size(1), head_width = q.size(2), D = heads * head_width;
  check_like(qkv, qkv, {rows, 3 * D}, "qkv");
  const at::ScalarType out = store.v_scale.defined() ? at::kFloat8_e4m3fn : qkv.scalar_type();
  check_like(q, qkv, out, {rows, heads, head_width}, "q");
  check_like(store.k, qkv, out, {store.k.size(0), heads, head_width}, "the keys' store");
  check_like(store.v, qkv, out, {store.k.size(0), heads, head_width}, "the values' store");
  if (store.v_scale.defined()) check_like(store.v_scale, qkv, at::kFloat, {1}, "the values' scale");
  check_like(norm.weight_q, qkv, {D}, "the norm of queries");
  check_like(norm.weight_k, qkv, {D}, "the norm of keys");
  check_index(position, qkv, "the positions");
  check_index(store.row, qkv, "the store rows");
  LONGTAKE_CHECK(norm.rotations.dim() == 2 && norm.rotations.size(1) * 2 == head_width &&
                     norm.rotations.is_contiguous() && norm.rotations.scalar_type() == at::kComplexFloat &&
                     norm.rotations.device() == qkv.device(),
                 "expected rotations [n, {}] complex64 on {}, found [{}]", head_width / 2, qkv.device().str(),
                 fmt::join(norm.rotations.sizes(), ", "));
}

// 16-byte accesses from an aligned start.
bool aligned(std::initializer_list<at::Tensor> tensors) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [](const at::Tensor& x) { return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0; });
}

}  // namespace

void qkv_rows(at::Tensor& q, KvRows& store, const at::Tensor& qkv, const at::Tensor& position, const QkNorm& norm) {
  check(q, store, qkv, position, norm);
  const int64_t head_width = q.size(2), D = q.size(1) * head_width;
  if (!cuda::runs_kernels(qkv) || !cuda::row_fits(D) || head_width % cuda::kRowStep != 0 ||
      !aligned({qkv, q, store.k, store.v, norm.weight_q, norm.weight_k, norm.rotations}))
    return reference::qkv_rows(q, store, qkv, position, norm);
  cuda::QkvRows p;
  p.rows = qkv.size(0);
  p.width = D;
  p.head_width = head_width;
  p.eps = static_cast<float>(norm.eps);
  p.type = cuda::float_type(qkv);
  p.qkv = qkv.const_data_ptr();
  p.norm_q = norm.weight_q.const_data_ptr();
  p.norm_k = norm.weight_k.const_data_ptr();
  p.rotations = static_cast<const float*>(norm.rotations.const_data_ptr());
  p.position = position.const_data_ptr<int32_t>();
  p.q = q.data_ptr();
  p.k = store.k.data_ptr();
  p.v = store.v.data_ptr();
  p.store_row = store.row.const_data_ptr<int32_t>();
  p.first = store.first;
  p.store_rows = store.k.size(0);
  if (store.v_scale.defined()) p.v_scale = store.v_scale.const_data_ptr<float>();
  const cuda::Launch launch(qkv, "qkv_rows");
  launch.check(cuda::qkv_rows(p, launch.stream()));
}

void rms_rows(at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, double eps) {
  LONGTAKE_CHECK(x.dim() == 2, "expected x of 2 dimensions, found {}", x.dim());
  check_like(x, x, {x.size(0), x.size(1)}, "x");
  check_like(out, x, {x.size(0), x.size(1)}, "the result");
  check_like(weight, x, {x.size(1)}, "the weight");
  if (!cuda::runs_kernels(x) || !cuda::row_fits(x.size(1)) || !aligned({x, out, weight}))
    return reference::rms_rows(out, x, weight, eps);
  cuda::RmsRows p;
  p.rows = x.size(0);
  p.width = x.size(1);
  p.eps = static_cast<float>(eps);
  p.type = cuda::float_type(x);
  p.x = x.const_data_ptr();
  p.weight = weight.const_data_ptr();
  p.out = out.data_ptr();
  const cuda::Launch launch(x, "rms_rows");
  launch.check(cuda::rms_rows(p, launch.stream()));
}

namespace reference {

void qkv_rows(at::Tensor& q, KvRows& store, const at::Tensor& qkv, const at::Tensor& position, const QkNorm& norm) {
  const int64_t rows = qkv.size(0), heads = q.size(1), head_width = q.size(2), D = heads * head_width;
  const at::Tensor rotations = norm.rotations.index_select(0, position);
  const auto rotated = [&](int64_t part, const at::Tensor& weight) {
    const at::Tensor x = qkv.narrow(1, part * D, D).to(at::kFloat);
    return apply_rope(at::rms_norm(x, {D}, weight.to(at::kFloat), norm.eps).view({rows, heads, head_width}), rotations);
  };
  const bool e4m3 = store.v_scale.defined();
  const auto rounded = [&](const at::Tensor& x) {
    // A cast alone would make NaN of what lies beyond the largest e4m3 value.
    return e4m3 ? x.clamp(-kE4m3Max, kE4m3Max).to(at::kFloat8_e4m3fn) : x.to(q.scalar_type());
  };
  q.copy_(rounded(rotated(0, norm.weight_q)));
  const at::Tensor to = store.row.to(at::kLong) - store.first;
  const at::Tensor kept = at::nonzero((to >= 0) & (to < store.k.size(0))).flatten();
  const at::Tensor into = to.index_select(0, kept);
  at::Tensor values = qkv.narrow(1, 2 * D, D).reshape({rows, heads, head_width});
  if (e4m3) values = values.to(at::kFloat) * store.v_scale.reciprocal();
  const auto put = [&](const at::Tensor& rows_in_store, const at::Tensor& x) {
    const at::Tensor narrow = rounded(x.index_select(0, kept));
    // Indexing knows no 8-bit floats.
    if (e4m3)
      rows_in_store.view(at::kByte).index_copy_(0, into, narrow.view(at::kByte));
    else
      rows_in_store.index_copy_(0, into, narrow);
  };
  put(store.k, rotated(1, norm.weight_k));
  put(store.v, values);
}

void rms_rows(at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, double eps) {
  out.copy_(at::rms_norm(x.to(at::kFloat), {x.size(1)}, weight.to(at::kFloat), eps));
}

}  // namespace reference
}  // namespace longtake
