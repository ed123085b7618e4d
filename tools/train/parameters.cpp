#include "tools/train/parameters.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

#include "base/error.h"
#include "models/weights/checkpoint.h"
#include "models/weights/safetensors.h"

namespace longtake::train {

Parameters::Parameters(std::map<std::string, at::Tensor> tensors, double average)
    : tensors_(std::move(tensors)), average_decay_(average) {
  for (auto& [name, tensor] : tensors_) {
    moment_[name] = at::zeros_like(tensor), square_[name] = at::zeros_like(tensor);
    average_[name] = tensor.detach().clone();
    tensor.requires_grad_(true);
  }
}

double Parameters::step(double rate, double decay, double clip) {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;
  for (const auto& [name, tensor] : tensors_)
    if (tensor.grad().defined()) norms.push_back(tensor.grad().norm());
  const double norm = at::stack(norms).norm().item<double>();
  if (std::isfinite(norm)) {
    ++steps_;
    const double scale = std::min(1.0, clip / (norm + 1e-6));
    for (const bool flat : {true, false}) {
      std::vector<at::Tensor> values, gradients, moments, squares, counts;
      for (const auto& [name, tensor] : tensors_) {
        if (!tensor.grad().defined() || (tensor.dim() < 2) != flat) continue;
        values.push_back(tensor.detach()), gradients.push_back(tensor.grad().mul(scale));
        moments.push_back(moment_[name]), squares.push_back(square_[name]);
        counts.push_back(at::full({}, static_cast<double>(steps_), tensor.options().requires_grad(false)));
      }
      if (!values.empty())
        at::_fused_adamw_(values, gradients, moments, squares, {}, counts, rate, 0.9, 0.98, flat ? 0 : decay, 1e-8, false, false);
    }
    // The average catches up quickly at the start.
    const double keep = std::min(average_decay_, (1.0 + static_cast<double>(steps_)) / (10.0 + static_cast<double>(steps_)));
    for (auto& [name, tensor] : tensors_) average_[name].lerp_(tensor.detach(), 1 - keep);
  }
  for (auto& [name, tensor] : tensors_) tensor.mutable_grad() = at::Tensor();
  return norm;
}

std::map<std::string, at::Tensor> Parameters::averaged() const { return average_; }

void Parameters::save(const std::filesystem::path& path) const {
  std::map<std::string, at::Tensor> all;
  for (const auto& [name, tensor] : tensors_) {
    all["value/" + name] = tensor.detach(), all["average/" + name] = average_.at(name);
    all["moment/" + name] = moment_.at(name), all["square/" + name] = square_.at(name);
  }
  all["steps"] = at::scalar_tensor(steps_, at::TensorOptions().dtype(at::kLong));
  save_safetensors(path, all);
}

void Parameters::load(const std::filesystem::path& path) {
  at::NoGradGuard no_grad;
  const Checkpoint file = Checkpoint::open(path);
  for (auto& [name, tensor] : tensors_) {
    tensor.detach().copy_(file.tensor("value/" + name)), average_[name].copy_(file.tensor("average/" + name));
    moment_[name].copy_(file.tensor("moment/" + name)), square_[name].copy_(file.tensor("square/" + name));
  }
  steps_ = file.tensor("steps").item<int64_t>();
}

std::vector<int64_t> StepSource::shape(const std::string& name) const { return tensors_.at(name).sizes().vec(); }

at::Tensor StepSource::take(const std::string& name, const std::vector<int64_t>& shape) {
  const auto found = tensors_.find(name);
  LONGTAKE_CHECK(found != tensors_.end() && found->second.sizes() == shape, "'{}' is missing or has another shape", name);
  return found->second.to(dtype_);
}

}  // namespace longtake::train
