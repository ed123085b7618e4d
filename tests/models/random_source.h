// Random weights of given names and shapes, for tests of models. Convolutions and projections keep the size of what
// passes; norm gains lie near 1, biases near 0 and nothing is 0, so that no term is left untested.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "models/weights/source.h"

namespace longtake::test {

inline std::map<std::string, at::Tensor> random_weights(
    const std::vector<std::pair<std::string, std::vector<int64_t>>>& shapes, uint64_t seed = 1) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  std::map<std::string, at::Tensor> weights;
  for (const auto& [name, shape] : shapes) {
    at::Tensor tensor = at::empty(shape, at::kFloat).normal_(0, 1, generator);
    const bool gain = name.ends_with(".gamma") || (shape.size() == 1 && name.ends_with(".weight"));
    if (gain) {
      tensor.mul_(0.1).add_(1);
    } else if (shape.size() == 1) {
      tensor.mul_(0.1);
    } else {
      tensor.div_(std::sqrt(static_cast<double>(tensor.numel() / shape[0])));
    }
    weights[name] = tensor;
  }
  return weights;
}

class MapSource : public WeightSource {
 public:
  explicit MapSource(std::map<std::string, at::Tensor> weights, at::ScalarType dtype = at::kFloat)
      : weights_(std::move(weights)), dtype_(dtype) {}
  bool has(const std::string& name) const override { return weights_.contains(name); }
  std::vector<int64_t> shape(const std::string& name) const override { return find(name).sizes().vec(); }
  at::Tensor take(const std::string& name, const std::vector<int64_t>& shape) override {
    const at::Tensor& tensor = find(name);
    if (tensor.sizes() != shape) fail_file("tensor {} has shape {}", name, fmt::join(tensor.sizes(), "x"));
    return tensor.to(dtype_);
  }

 private:
  const at::Tensor& find(const std::string& name) const {
    const auto it = weights_.find(name);
    if (it == weights_.end()) fail_file("tensor {} is missing", name);
    return it->second;
  }
  std::map<std::string, at::Tensor> weights_;
  at::ScalarType dtype_;
};

}  // namespace longtake::test
