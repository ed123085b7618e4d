#include "cache/state.h"

#include <ATen/ops/empty.h>
#include <fmt/ranges.h>

#include "base/error.h"

namespace longtake {
namespace {

template <class T>
at::Tensor to_tensor(const std::vector<T>& values, at::ScalarType dtype) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, dtype);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<T>());
  return tensor;
}

template <class T>
std::vector<T> to_vector(const at::Tensor& tensor) {
  const at::Tensor plain = tensor.contiguous();
  const T* data = plain.const_data_ptr<T>();
  return {data, data + plain.numel()};
}

}  // namespace

State::State(std::map<std::string, at::Tensor> tensors, std::string origin)
    : tensors_(std::move(tensors)), origin_(std::move(origin)) {}

void State::refuse(const std::string& reason) const {
  fail_file("{}: {}; the run folder does not fit this run, begin again with --overwrite-run", origin_, reason);
}

void State::put(const std::string& name, const at::Tensor& tensor) {
  if (!tensor.defined()) return;
  LONGTAKE_CHECK(tensors_.emplace(name, tensor).second, "state '{}' is put in twice", name);
}

void State::put_integers(const std::string& name, const std::vector<int64_t>& values) {
  put(name, to_tensor(values, at::kLong));
}

void State::put_numbers(const std::string& name, const std::vector<double>& values) {
  put(name, to_tensor(values, at::kDouble));
}

const at::Tensor& State::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) refuse(fmt::format("'{}' is missing", name));
  read_.insert(name);
  return found->second;
}

at::Tensor State::get(const std::string& name, at::IntArrayRef sizes, at::ScalarType dtype) const {
  const at::Tensor& tensor = find(name);
  if (tensor.sizes() != sizes || tensor.scalar_type() != dtype)
    refuse(fmt::format("'{}' should be {} [{}], found {} [{}]", name, c10::toString(dtype), fmt::join(sizes, ", "),
                       c10::toString(tensor.scalar_type()), fmt::join(tensor.sizes(), ", ")));
  return tensor;
}

at::Tensor State::get(const std::string& name, int64_t dimensions) const {
  const at::Tensor& tensor = find(name);
  if (tensor.dim() != dimensions)
    refuse(fmt::format("'{}' should have {} dimensions, found {}", name, dimensions, tensor.dim()));
  return tensor;
}

std::vector<int64_t> State::integers(const std::string& name, std::optional<size_t> count) const {
  const int64_t size = count ? static_cast<int64_t>(*count) : get(name, 1).size(0);
  return to_vector<int64_t>(get(name, {size}, at::kLong));
}

std::vector<double> State::numbers(const std::string& name, std::optional<size_t> count) const {
  const int64_t size = count ? static_cast<int64_t>(*count) : get(name, 1).size(0);
  return to_vector<double>(get(name, {size}, at::kDouble));
}

void State::check_all_read() const {
  for (const auto& [name, tensor] : tensors_)
    if (!read_.contains(name)) refuse(fmt::format("'{}' is not known here", name));
}

int64_t State::bytes() const {
  int64_t sum = 0;
  for (const auto& [name, tensor] : tensors_) sum += static_cast<int64_t>(tensor.nbytes());
  return sum;
}

}  // namespace longtake
