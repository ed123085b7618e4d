#include "models/weights/tensor_file.h"

#include <fmt/ranges.h>

#include "base/error.h"
#include "base/suggest.h"

namespace longtake {

const TensorInfo* TensorFile::find(const std::string& name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

at::Tensor TensorFile::tensor(const std::string& name) const {
  const auto it = index_.find(name);
  if (it == index_.end()) {
    std::vector<std::string> names;
    for (const TensorInfo& info : tensors_) names.push_back(info.name);
    fail_file("{}: holds no tensor '{}'{}", path_.string(), name, did_you_mean(name, names));
  }
  return view(it->second);
}

bool TensorFile::add(TensorInfo info) {
  if (!index_.emplace(info.name, tensors_.size()).second) return false;
  tensors_.push_back(std::move(info));
  return true;
}

std::string shape_text(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace longtake
