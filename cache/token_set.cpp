#include "cache/token_set.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/nonzero.h>

#include "base/error.h"
#include "base/upload.h"

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

TokenSet TokenSet::from_mask(const at::Tensor& mask) {
  LONGTAKE_CHECK(mask.dim() == 2 && mask.scalar_type() == at::kBool, "expected bool [frames, plane], found {} dimensions", mask.dim());
  const at::Tensor first = mask.narrow(0, 0, 1);
  if (!at::equal(mask, first.expand_as(mask))) return list(at::nonzero(mask.flatten()).flatten());
  const at::Tensor positions = at::nonzero(first.flatten()).flatten();
  return positions.size(0) == mask.size(1) ? all() : columns(positions);
}

bool TokenSet::known_equal(const TokenSet& other) const {
  if (kind_ != other.kind_) return false;
  if (index_.is_same(other.index_)) return true;
  return index_.device().is_cpu() && other.index_.device().is_cpu() && at::equal(index_, other.index_);
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
      return (at::arange(frames, int64_on(device)).unsqueeze(1) * plane + upload(index_, device).unsqueeze(0)).flatten();
    case Kind::list: return upload(index_, device);
  }
  return {};
}

at::Tensor TokenSet::mask(int64_t frames, int64_t plane, const at::Device& device) const {
  const at::Tensor mask = at::full({frames, plane}, is_all(), at::TensorOptions().dtype(at::kBool).device(device));
  if (kind_ == Kind::columns) mask.index_fill_(1, upload(index_, device), true);
  if (kind_ == Kind::list) mask.view({-1}).index_fill_(0, upload(index_, device), true);
  return mask;
}

}  // namespace longtake
