#include "attention/stacked.h"

namespace longtake {

at::Tensor stacked(std::span<const Sequence> sequences, at::Tensor Sequence::*part) {
  const at::Tensor& first = sequences[0].*part;
  const int64_t distance = sequences.size() > 1 ? (sequences[1].*part).storage_offset() - first.storage_offset() : first.numel();
  if (distance <= 0) return {};
  for (size_t i = 0; i < sequences.size(); ++i) {
    const at::Tensor& x = sequences[i].*part;
    if (!x.is_contiguous() || x.sizes() != first.sizes() || !x.storage().is_alias_of(first.storage()) ||
        x.storage_offset() != first.storage_offset() + static_cast<int64_t>(i) * distance)
      return {};
  }
  std::vector<int64_t> sizes = first.sizes().vec(), strides = first.strides().vec();
  sizes.insert(sizes.begin(), static_cast<int64_t>(sequences.size()));
  strides.insert(strides.begin(), distance);
  return first.as_strided(sizes, strides);
}

}  // namespace longtake
