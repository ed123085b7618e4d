#include "cache/input_change.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/mean.h>

namespace longtake {
namespace {

constexpr double kEps = 1e-8;

}  // namespace

double InputChange::Change::of_chunk() const { return (moved.mean() / (size.mean() + kEps)).item<double>(); }

at::Tensor InputChange::Change::of_tokens() const { return moved / (size + kEps); }

void InputChange::begin_row(const RowContext& row) {
  std::erase_if(before_, [&](const auto& b) { return !row.chunks.at(b.first).update; });
}

InputChange::Change InputChange::measure(int chunk, const at::Tensor& embedded) {
  at::Tensor& before = before_[chunk];
  Change change;
  if (before.defined()) {
    const at::Tensor from = before.to(at::kFloat);
    change = {at::mean(at::abs(embedded.to(at::kFloat) - from), -1), at::mean(at::abs(from), -1)};
  }
  before = embedded;
  return change;
}

void InputChange::save(State& state) const {
  std::vector<int64_t> chunks;
  for (const auto& [chunk, embedded] : before_) {
    chunks.push_back(chunk);
    state.put(fmt::format("policy/input/{}", chunk), embedded);
  }
  state.put_integers("policy/inputs", chunks);
}

void InputChange::load(const State& state, const StateLayout& layout) {
  before_.clear();
  for (const int chunk : StateLayout::chunks(state, "policy/inputs")) {
    const std::string name = fmt::format("policy/input/{}", chunk);
    before_[chunk] = layout.get(state, name, {layout.frames_of(state, name, chunk), layout.plane, layout.embedded.width}, layout.embedded.dtype);
  }
}

}  // namespace longtake
