#include "cache/token_set.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>

#include "base/error.h"

namespace longtake {
namespace {

at::TensorOptions int64_on(const at::Device& device) { return at::TensorOptions().dtype(at::kLong).device(device); }

void check_index(const at::Tensor& index) {
  LONGTAKE_CHECK(index.dim() == 1 && index.scalar_type() == at::kLong, "expected int64 [n], found {} dimensions", index.dim());
}

}  // namespace

TokenSet TokenSet::columns(at::Tensor positions) {
  check_index(positions);
  return positions.numel() == 0 ? none() : TokenSet(Kind::columns, std::move(positions));
}

TokenSet TokenSet::list(at::Tensor tokens) {
  check_index(tokens);
  return tokens.numel() == 0 ? none() : TokenSet(Kind::list, std::move(tokens));
}

int64_t TokenSet::count(int64_t frames, int64_t plane) const {
  switch (kind_) {
    case Kind::none: return 0;
    case Kind::all: return frames * plane;
    case Kind::columns: return frames * index_.size(0);
    case Kind::list: return index_.size(0);
  }
  return 0;
}

std::vector<int64_t> TokenSet::count_by_frame(int64_t frames, int64_t plane) const {
  if (kind_ != Kind::list) return std::vector<int64_t>(frames, count(frames, plane) / frames);
  std::vector<int64_t> counts(frames, 0);
  const at::Tensor host = index_.cpu();
  for (int64_t i = 0; i < host.size(0); ++i) ++counts.at(host.const_data_ptr<int64_t>()[i] / plane);
  return counts;
}

at::Tensor TokenSet::indices(int64_t frames, int64_t plane, const at::Device& device) const {
  switch (kind_) {
    case Kind::none: return at::empty({0}, int64_on(device));
    case Kind::all: return at::arange(frames * plane, int64_on(device));
    case Kind::columns:
      return (at::arange(frames, int64_on(device)).unsqueeze(1) * plane + index_.to(device).unsqueeze(0)).flatten();
    case Kind::list: return index_.to(device);
  }
  return {};
}

}  // namespace longtake
