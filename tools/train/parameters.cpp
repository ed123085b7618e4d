#include "tools/train/parameters.h"

#include <ATen/core/grad_mode.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

#include "base/error.h"
#include "models/weights/checkpoint.h"
#include "models/weights/safetensors.h"

namespace longtake::train {
namespace {

bool is_block_matrix(const std::string& name, const at::Tensor& tensor) {
  return tensor.dim() == 2 && name.find("blocks.") != std::string::npos && std::min(tensor.size(0), tensor.size(1)) >= 64;
}

// matrices [n, rows, columns] -> the same singular vectors with singular values near one: five Newton-Schulz steps.
at::Tensor orthogonalise(const at::Tensor& matrices) {
  const bool tall = matrices.size(1) > matrices.size(2);
  at::Tensor x = matrices.to(matrices.is_cuda() ? at::kBFloat16 : at::kFloat);
  if (tall) x = x.transpose(1, 2);
  x = x / (at::linalg_vector_norm(x, 2, at::IntArrayRef({1, 2}), true) + 1e-7);
  for (int i = 0; i < 5; ++i) {
    const at::Tensor a = at::bmm(x, x.transpose(1, 2));
    x = 3.4445 * x + at::bmm(-4.7750 * a + 2.0315 * at::bmm(a, a), x);
  }
  return (tall ? x.transpose(1, 2) : x).to(at::kFloat);
}

}  // namespace

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
  std::vector<at::Tensor> gradients;
  std::vector<std::string> flat, matrices, others;
  for (const auto& [name, tensor] : tensors_) {
    if (!tensor.grad().defined()) continue;
    gradients.push_back(tensor.grad());
    (tensor.dim() < 2 ? flat : is_block_matrix(name, tensor) ? matrices : others).push_back(name);
  }
  const double norm = at::stack(at::_foreach_norm(gradients)).norm().item<double>();
  if (std::isfinite(norm)) {
    ++steps_;
    at::_foreach_mul_(gradients, std::min(1.0, clip / (norm + 1e-6)));
    step_adamw(flat, rate, 0);
    step_adamw(others, rate, decay);
    step_muon(matrices, rate, decay);
    // The average catches up quickly at the start.
    const double keep = std::min(average_decay_, (1.0 + static_cast<double>(steps_)) / (10.0 + static_cast<double>(steps_)));
    std::vector<at::Tensor> averages, values;
    for (auto& [name, tensor] : tensors_) averages.push_back(average_[name]), values.push_back(tensor.detach());
    at::_foreach_lerp_(averages, values, 1 - keep);
  }
  for (auto& [name, tensor] : tensors_) tensor.mutable_grad() = at::Tensor();
  return norm;
}

void Parameters::step_adamw(const std::vector<std::string>& names, double rate, double decay) {
  if (names.empty()) return;
  std::vector<at::Tensor> values, gradients, moments, squares;
  for (const std::string& name : names) {
    values.push_back(tensors_[name].detach()), gradients.push_back(tensors_[name].grad());
    moments.push_back(moment_[name]), squares.push_back(square_[name]);
  }
  const at::Tensor count = at::full({}, static_cast<double>(steps_), gradients.front().options().dtype(at::kFloat));
  at::_fused_adamw_(values, gradients, moments, squares, {}, std::vector<at::Tensor>(names.size(), count), rate, 0.9, 0.98, decay, 1e-8,
                    false, false);
}

void Parameters::step_muon(const std::vector<std::string>& names, double rate, double decay) {
  constexpr double momentum = 0.95;
  std::map<std::vector<int64_t>, std::vector<std::string>> by_shape;  // matrices of one shape are orthogonalised together
  for (const std::string& name : names) by_shape[tensors_[name].sizes().vec()].push_back(name);
  for (const auto& [shape, group] : by_shape) {
    std::vector<at::Tensor> values, gradients, moments;
    for (const std::string& name : group)
      values.push_back(tensors_[name].detach()), gradients.push_back(tensors_[name].grad()), moments.push_back(moment_[name]);
    at::_foreach_lerp_(moments, gradients, 1 - momentum);
    at::_foreach_lerp_(gradients, moments, momentum);  // Nesterov
    const at::Tensor direction = orthogonalise(at::stack(gradients));
    at::_foreach_mul_(values, 1 - rate * decay);
    // An entry of an orthogonal matrix has the size 1 / sqrt(longer side); 0.2 is that of AdamW's usual steps.
    at::_foreach_add_(values, direction.unbind(), -rate * 0.2 * std::sqrt(static_cast<double>(std::max(shape[0], shape[1]))));
  }
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
