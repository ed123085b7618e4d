#include "runtime/calibration.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/log2.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/sort.h>

namespace longtake {
namespace {

at::Tensor discounts(int64_t count) { return 1 / at::log2(at::arange(2, count + 2, at::TensorOptions().dtype(at::kDouble))); }

at::Tensor on_host(const at::Tensor& x) { return x.flatten().to(at::kCPU, at::kDouble); }

double best_gain(const at::Tensor& relevance) {
  return at::dot(std::get<0>(at::sort(relevance, /*dim=*/0, /*descending=*/true)), discounts(relevance.numel())).item<double>();
}

double mean_size(const at::Tensor& x) { return at::mean(at::abs(x)).item<double>(); }

}  // namespace

double ndcg(const at::Tensor& score, const at::Tensor& relevance) {
  const at::Tensor gain = on_host(relevance), order = at::argsort(on_host(score), /*dim=*/0, /*descending=*/true);
  const double best = best_gain(gain);
  return best > 0 ? at::dot(gain.index_select(0, order), discounts(gain.numel())).item<double>() / best : 1;
}

double random_ndcg(const at::Tensor& relevance) {
  const at::Tensor gain = on_host(relevance);
  const double best = best_gain(gain);
  return best > 0 ? gain.mean().item<double>() * discounts(gain.numel()).sum().item<double>() / best : 1;
}

void Calibration::begin_window(int window) {
  motion_.forget();
  seen_.clear();
  for (Shadow& shadow : shadows_) shadow.asked->begin_window(window);
}

void Calibration::begin_row(const RowContext& row) {
  for (Shadow& shadow : shadows_) shadow.asked->begin_row(row);
}

std::vector<Decision> Calibration::decide(const StepContext& context) {
  for (Shadow& shadow : shadows_) {
    for (const Decision& decision : shadow.asked->decide(context)) {
      if (context.prefix) continue;  // computed once whatever the policy
      shadow.recomputed += static_cast<double>(decision.tokens.count(context.frames, context.plane));
      shadow.tokens += static_cast<double>(context.frames * context.plane);
    }
  }
  return std::vector<Decision>(static_cast<size_t>(branches_));
}

void Calibration::observe(const StepContext& context, int branch, const at::Tensor& hidden) {
  for (Shadow& shadow : shadows_) shadow.asked->observe(context, branch, hidden);
}

void Calibration::measure(const StepContext& context, int branch, const at::Tensor& hidden, const at::Tensor& embedded) {
  const at::Tensor frames = hidden.view({context.frames, context.plane, -1});
  if (context.prefix) return motion_.remember(context, branch, frames);
  Seen now{hidden.to(at::kFloat) - embedded.to(at::kFloat), motion_.measure(context, branch, frames), {}};
  Seen& before = seen_[{context.chunk, branch}];
  if (context.step > 0 && before.residual.defined()) {
    const at::Tensor moved = now.residual - before.residual;
    now.moved = at::linalg_vector_norm(moved, 2, at::IntArrayRef({1})).view({context.frames, context.plane});
    StepSample sample{.step = context.step, .change = change_.at(static_cast<size_t>(context.step)),
                      .residual = mean_size(moved) / (mean_size(before.residual) + 1e-8), .change_ndcg = {}};
    if (before.moved.defined()) sample.change_ndcg = 0;
    for (int64_t f = 0; f < context.frames; ++f) {
      sample.ndcg += ndcg(before.motion[f], now.moved[f]) / static_cast<double>(context.frames);
      sample.random_ndcg += random_ndcg(now.moved[f]) / static_cast<double>(context.frames);
      if (sample.change_ndcg) *sample.change_ndcg += ndcg(before.moved[f], now.moved[f]) / static_cast<double>(context.frames);
    }
    samples_.push_back(sample);
  }
  before = std::move(now);
}

}  // namespace longtake
