// Random weights for measurements: as expensive to run as trained ones, and well behaved.
#pragma once

#include "models/weights/source.h"

namespace longtake {

// Draws each tensor on the device in the dtype it is wanted in, so that a 14B model never stands in memory twice. A
// tensor depends on the seed, its name and the kind of device (CPU and CUDA draw different numbers), not on the order
// of creation. Rules by name and shape (original names), by which activations keep their size through any number of
// layers:
//   gains (*.gamma, 1-D *.weight)   1: normalised queries and keys give scores of unit variance, so that attention
//   spreads
//                                   over most keys without being a plain mean
//   *.bias                          0
//   *.modulation                    normal with standard deviation 1/sqrt(last size), as a fresh model has them
//   other *.weight, the head's too  normal with standard deviation 1/sqrt(fan-in)
class RandomSource : public WeightSource {
 public:
  RandomSource(uint64_t seed, at::Device device, at::ScalarType dtype);

  // Nothing is stored, so nothing can be asked: Error (internal). Sizes and optional parts come from a recipe (or a derived source).
  bool has(const std::string& name) const override;
  std::vector<int64_t> shape(const std::string& name) const override;
  // A new tensor with the same values each time.
  at::Tensor take(const std::string& name, const std::vector<int64_t>& shape) override;

 private:
  uint64_t seed_;
  at::Device device_;
  at::ScalarType dtype_;
};

}  // namespace longtake
