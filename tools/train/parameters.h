// Trainable parameters with their optimiser's moments and running average, and a WeightSource over them.
//
// Matrices inside blocks are stepped by Muon (Jordan et al. 2024; the scale of Liu et al. 2025, arXiv:2502.16982, equation 4): the
// momentum is orthogonalised, so that rare directions learn as fast as common ones. Everything else is stepped by AdamW.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

#include "models/weights/source.h"

namespace longtake::train {

class Parameters {
 public:
  // Leaf tensors, float32, by original name. `average` is the decay of the running average.
  explicit Parameters(std::map<std::string, at::Tensor> tensors, double average);

  const std::map<std::string, at::Tensor>& tensors() const { return tensors_; }
  std::map<std::string, at::Tensor> averaged() const;

  // One step on the gradients, which it clears: global norm clipped to `clip`, no decay on tensors of one dimension. Returns the norm before clipping; a step whose norm is not finite is left out.
  double step(double rate, double decay = 0.01, double clip = 1);
  int64_t steps() const { return steps_; }

  // Everything that training needs to go on, in one safetensors file.
  void save(const std::filesystem::path& path) const;
  void load(const std::filesystem::path& path);

 private:
  void step_adamw(const std::vector<std::string>& names, double rate, double decay);
  void step_muon(const std::vector<std::string>& names, double rate, double decay);

  std::map<std::string, at::Tensor> tensors_, average_, moment_, square_;
  double average_decay_;
  int64_t steps_ = 0;
};

// Hands the parameters to a model, cast to `dtype` by a differentiable operation: models built from it are good for one step.
class StepSource : public WeightSource {
 public:
  StepSource(const std::map<std::string, at::Tensor>& tensors, at::ScalarType dtype) : tensors_(tensors), dtype_(dtype) {}
  bool has(const std::string& name) const override { return tensors_.contains(name); }
  std::vector<int64_t> shape(const std::string& name) const override;
  at::Tensor take(const std::string& name, const std::vector<int64_t>& shape) override;

 private:
  const std::map<std::string, at::Tensor>& tensors_;
  at::ScalarType dtype_;
};

}  // namespace longtake::train
