#include "cache/row_ops.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "base/cuda.h"
#include "base/error.h"
#include "cache/cuda/merge_rows.cuh"
#include "cache/cuda/motion_rows.cuh"

namespace longtake {
namespace {

bool is_row_dtype(at::ScalarType t) { return t == at::kFloat || t == at::kHalf || t == at::kBFloat16; }

void check_rows(const at::Tensor& x, const at::Tensor& like, at::IntArrayRef sizes, const char* name) {
  LONGTAKE_CHECK(x.defined() && x.sizes() == sizes && x.is_contiguous() && x.scalar_type() == like.scalar_type() && x.device() == like.device(),
                 "expected {} dense [{}] of {} on {}, found [{}]", name, fmt::join(sizes, ", "), c10::toString(like.scalar_type()), like.device().str(),
                 x.defined() ? fmt::format("{}", fmt::join(x.sizes(), ", ")) : "nothing");
}

void check(const at::Tensor& embedded, const CachedRows& c, const RowMerge& m) {
  LONGTAKE_CHECK(embedded.dim() == 2 && is_row_dtype(embedded.scalar_type()), "expected embedded rows of 2 dimensions, found {}", embedded.dim());
  check_rows(embedded, embedded, embedded.sizes(), "the embedded rows");
  check_rows(c.residual, embedded, embedded.sizes(), "the residuals");
  const bool levels = c.level.defined() && c.before_level.defined();
  LONGTAKE_CHECK(!m.predicts || (c.before.defined() && levels), "expected two residuals a token to predict from");
  if (c.before.defined()) check_rows(c.before, embedded, embedded.sizes(), "the earlier residuals");
  for (const at::Tensor& level : {c.level, c.before_level})
    LONGTAKE_CHECK(!level.defined() || (level.dim() == 1 && level.size(0) == embedded.size(0) && level.scalar_type() == at::kFloat && level.is_contiguous()),
                   "expected levels float32 [{}]", embedded.size(0));
  LONGTAKE_CHECK(m.fresh.defined() == m.rows.defined(), "expected computed rows with their tokens");
  if (!m.fresh.defined()) return;
  check_rows(m.fresh, embedded, {m.rows.size(0), embedded.size(1)}, "the computed rows");
  LONGTAKE_CHECK(m.rows.dim() == 1 && m.rows.scalar_type() == at::kLong && m.rows.device() == embedded.device(), "expected tokens int64 [count]");
}

bool aligned(std::initializer_list<at::Tensor> tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const at::Tensor& x) {
    return !x.defined() || reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
  });
}

// How far tokens changed between two frames, over the hidden dimension.
at::Tensor change(const at::Tensor& from, const at::Tensor& to, MotionMeasure measure) {
  const at::Tensor moved = at::mean(at::abs(to - from), -1);
  return measure == MotionMeasure::absolute ? moved : moved / (at::mean(at::abs(from), -1) + 1e-8);
}

at::Tensor predicted(const at::Tensor& embedded, const CachedRows& c, const RowMerge& m) {
  const at::Tensor gap = c.level - c.before_level;
  const at::Tensor ahead = (at::full({1}, m.now, gap.options()) - c.level) / gap;
  const at::Tensor factor = at::where(gap == 0, at::zeros_like(gap), ahead).clamp(0, m.clip).unsqueeze(1);
  const at::Tensor last = c.residual.to(at::kFloat);
  const at::Tensor residual = last + (last - c.before.to(at::kFloat)) * factor;
  return (embedded.to(at::kFloat) + residual).to(embedded.scalar_type());
}

}  // namespace

at::Tensor merge_rows(const at::Tensor& embedded, CachedRows& cached, const RowMerge& merge, at::Tensor* distance) {
  check(embedded, cached, merge);
  if (!cuda::runs_kernels(embedded) || embedded.size(1) % cuda::kRowStep != 0 || !aligned({embedded, cached.residual, cached.before, merge.fresh}))
    return reference::merge_rows(embedded, cached, merge, distance);
  const int64_t tokens = embedded.size(0);
  const auto pointer = [](const at::Tensor& x) { return x.defined() ? x.data_ptr<float>() : nullptr; };
  const at::Tensor hidden = at::empty_like(embedded);
  at::Tensor place;
  cuda::MergeRows p;
  p.rows = tokens, p.width = embedded.size(1), p.type = cuda::float_type(embedded);
  p.embedded = embedded.const_data_ptr(), p.residual = cached.residual.data_ptr(), p.hidden = hidden.data_ptr();
  if (merge.fresh.defined()) {
    const auto ints = at::TensorOptions().dtype(at::kInt).device(embedded.device());
    place = at::full({tokens}, -1, ints).index_copy_(0, merge.rows, at::arange(merge.rows.size(0), ints));
    p.fresh = merge.fresh.const_data_ptr(), p.place = place.const_data_ptr<int32_t>();
  }
  if (cached.before.defined()) p.before = cached.before.data_ptr();
  p.level = pointer(cached.level), p.before_level = pointer(cached.before_level);
  p.now = static_cast<float>(merge.now), p.clip = static_cast<float>(merge.clip), p.predicts = merge.predicts;
  if (distance) {
    *distance = at::empty({tokens}, embedded.options().dtype(at::kFloat));
    p.distance = distance->data_ptr<float>();
  }
  const cuda::Launch launch(embedded, "merge_rows");
  launch.check(cuda::merge_rows(p, launch.stream()));
  return hidden;
}

at::Tensor motion_rows(const at::Tensor& hidden, const at::Tensor& before, bool repeats_second, MotionMeasure measure) {
  LONGTAKE_CHECK(hidden.dim() == 3 && hidden.size(0) > 0, "expected hidden states [frames, plane, dim], found {} dimensions", hidden.dim());
  const bool same = !before.defined() || (before.scalar_type() == hidden.scalar_type() && before.is_contiguous() && before.sizes() == hidden[0].sizes());
  if (measure != MotionMeasure::relative || !cuda::runs_kernels(hidden) || !is_row_dtype(hidden.scalar_type()) || !hidden.is_contiguous() ||
      hidden.size(2) % cuda::kRowStep != 0 || !same || !aligned({hidden, before}))
    return reference::motion_rows(hidden, before, repeats_second, measure);
  const at::Tensor out = at::empty({hidden.size(0), hidden.size(1)}, hidden.options().dtype(at::kFloat));
  cuda::MotionRows p;
  p.frames = hidden.size(0), p.plane = hidden.size(1), p.width = hidden.size(2), p.type = cuda::float_type(hidden);
  p.hidden = hidden.const_data_ptr();
  if (before.defined()) p.before = before.const_data_ptr();
  p.repeats_second = repeats_second && hidden.size(0) > 1;
  p.out = out.data_ptr<float>();
  const cuda::Launch launch(hidden, "motion_rows");
  launch.check(cuda::motion_rows(p, launch.stream()));
  return out;
}

namespace reference {

at::Tensor merge_rows(const at::Tensor& embedded, CachedRows& cached, const RowMerge& merge, at::Tensor* distance) {
  const at::Tensor hidden = merge.predicts ? predicted(embedded, cached, merge) : embedded + cached.residual;
  if (distance) *distance = at::zeros({embedded.size(0)}, embedded.options().dtype(at::kFloat));
  if (!merge.fresh.defined()) return hidden;
  const at::Tensor& rows = merge.rows;
  if (cached.before.defined()) cached.before.index_copy_(0, rows, cached.residual.index_select(0, rows));
  if (cached.before_level.defined()) cached.before_level.index_copy_(0, rows, cached.level.index_select(0, rows));
  if (cached.level.defined()) cached.level.index_fill_(0, rows, merge.now);
  if (distance) {
    const at::Tensor apart = merge.fresh.to(at::kFloat) - hidden.index_select(0, rows).to(at::kFloat);
    distance->index_copy_(0, rows, at::linalg_vector_norm(apart, 2, at::IntArrayRef({1})));
  }
  hidden.index_copy_(0, rows, merge.fresh);
  cached.residual.index_copy_(0, rows, merge.fresh - embedded.index_select(0, rows));
  return hidden;
}

at::Tensor motion_rows(const at::Tensor& hidden_in, const at::Tensor& before, bool repeats_second, MotionMeasure measure) {
  const at::Tensor hidden = hidden_in.to(at::kFloat);
  const int64_t frames = hidden.size(0);
  at::Tensor first;
  const at::Tensor later =
      frames > 1 ? change(hidden.narrow(0, 0, frames - 1), hidden.narrow(0, 1, frames - 1), measure) : at::Tensor();
  if (before.defined())
    first = change(before.to(at::kFloat), hidden[0], measure);
  else if (repeats_second && later.defined())
    first = later[0];
  else
    first = at::ones({hidden.size(1)}, hidden.options());
  const at::Tensor motion = first.unsqueeze(0);
  return later.defined() ? at::cat({motion, later}) : motion;
}

}  // namespace reference
}  // namespace longtake
