#include "cache/latent_teacache.h"

#include <ATen/TensorOperators.h>

#include "cache/latent_base.h"

namespace longtake {

std::vector<std::pair<std::string, LatentTeaCacheSettings>> LatentTeaCacheSettings::presets() {
  LatentTeaCacheSettings fast;
  fast.threshold = 0.02;
  return {{"slow", {}}, {"fast", fast}};
}

std::vector<SettingKey> LatentTeaCacheSettings::keys() {
  return {base_key(extras),
          number_key("threshold", threshold, 0, 1e6, "a row is computed when the accumulated change reaches this"),
          whole_key("ret", ret, 1, 1000, "first rows, which are always computed"),
          toggle_key("last_row", last_row, "the last row is always computed")};
}

void LatentTeaCache::begin_window(int) {
  inputs_.forget();
  accumulated_ = 0;
  rows_ = 0;
}

void LatentTeaCache::begin_row(const RowContext& row) {
  inputs_.begin_row(row);
  moved_ = size_ = at::Tensor();
  last_ = row.row == row.rows - 1;
  settled_ = false;
}

void LatentTeaCache::input(const StepContext& context, const at::Tensor& embedded) {
  const InputChange::Change change = inputs_.measure(context.chunk, embedded);
  if (!change.defined()) return;
  moved_ = moved_.defined() ? moved_ + change.moved.sum() : change.moved.sum();
  size_ = size_.defined() ? size_ + change.size.sum() : change.size.sum();
}

// The decision of the row, when all its chunks have been seen.
void LatentTeaCache::settle() {
  settled_ = true;
  ++rows_;
  row_ = {};
  if (moved_.defined()) row_.distance = (moved_ / (size_ + 1e-8)).item<double>();
  if (rows_ <= settings_.ret || !moved_.defined() || (settings_.last_row && last_)) {
    accumulated_ = 0;
    return;
  }
  row_.phase = Phase::chunk;
  accumulated_ += row_.distance;
  if (accumulated_ >= settings_.threshold)
    accumulated_ = 0;
  else
    row_.tokens = TokenSet::none();
}

std::vector<Decision> LatentTeaCache::decide(const StepContext& context) {
  if (!settled_) settle();
  return {context.step == 0 ? Decision{} : row_};
}

void LatentTeaCache::save(State& state) const {
  state.put_numbers("policy/accumulated", {accumulated_});
  state.put_integers("policy/rows", {rows_});
  inputs_.save(state);
}

void LatentTeaCache::load(const State& state, const StateLayout& layout) {
  accumulated_ = state.numbers("policy/accumulated", 1)[0];
  rows_ = static_cast<int>(state.integers("policy/rows", 1)[0]);
  inputs_.load(state, layout);
}

}  // namespace longtake
