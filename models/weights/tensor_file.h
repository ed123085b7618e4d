// What the readers of checkpoint files (safetensors.h, pickle.h) have in common: a list of named tensors and access to
// each.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

namespace longtake {

struct TensorInfo {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t offset = 0;  // of the first element, in bytes from the start of the file
  uint64_t bytes = 0;   // elements x element size (what a contiguous copy takes)
};

class TensorFile {
 public:
  virtual ~TensorFile() = default;

  const std::filesystem::path& path() const { return path_; }
  // In the order of the file.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  // Text that came with the tensors (safetensors only).
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // nullptr where there is no such tensor.
  const TensorInfo* find(const std::string& name) const;

  // A read-only CPU view of the file's memory (mapped_file.h); it keeps the map alive. Error (bad_file) for an unknown
  // name.
  at::Tensor tensor(const std::string& name) const;

 protected:
  explicit TensorFile(std::filesystem::path path) : path_(std::move(path)) {}
  // Returns false where the name is taken.
  bool add(TensorInfo info);
  virtual at::Tensor view(size_t index) const = 0;

  std::filesystem::path path_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;

 private:
  std::unordered_map<std::string, size_t> index_;
};

// "[2, 3]".
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace longtake
