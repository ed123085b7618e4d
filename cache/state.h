// What a run must keep to go on later: tensors by name.
//
// Owners of state (K/V, residuals, solver, policies, noise, statistics) put theirs in under names with their own prefix
// ("kv/3/1/k") and take it out again. A State shares storage with what was put in: write it before the run goes on.
// What comes out is checked, because it was a file in between: Error (bad_file) naming the entry that is missing or
// has another shape or dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace longtake {

class State {
 public:
  State() = default;
  // `origin` stands in front of error messages: where the tensors were read.
  State(std::map<std::string, at::Tensor> tensors, std::string origin);

  // An undefined tensor is left out.
  void put(const std::string& name, const at::Tensor& tensor);
  void put_integers(const std::string& name, const std::vector<int64_t>& values);  // int64 [n]
  void put_numbers(const std::string& name, const std::vector<double>& values);    // float64 [n]

  bool contains(const std::string& name) const { return tensors_.contains(name); }
  // Of exactly this shape and dtype.
  at::Tensor get(const std::string& name, at::IntArrayRef sizes, at::ScalarType dtype) const;
  // Of any shape with this many dimensions.
  at::Tensor get(const std::string& name, int64_t dimensions) const;
  // `count` values, or any number where it is not given.
  std::vector<int64_t> integers(const std::string& name, std::optional<size_t> count = std::nullopt) const;
  std::vector<double> numbers(const std::string& name, std::optional<size_t> count = std::nullopt) const;

  // Throws where an entry was never taken out: it belongs to another run or another version.
  void check_all_read() const;
  // "ORIGIN: " and what is wrong with it.
  [[noreturn]] void refuse(const std::string& reason) const;

  int64_t bytes() const;
  const std::map<std::string, at::Tensor>& tensors() const { return tensors_; }

 private:
  const at::Tensor& find(const std::string& name) const;

  std::map<std::string, at::Tensor> tensors_;
  std::string origin_;
  mutable std::set<std::string> read_;
};

}  // namespace longtake
