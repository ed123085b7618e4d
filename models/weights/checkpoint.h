// A model's weights on disk, whatever the file layout: one .safetensors file, one torch.save file (.pth, .pt, .bin,
// .ckpt), one .npz file, a *.safetensors.index.json or *.bin.index.json, or a folder of these but .npz. Reading is zero-copy
// through memory maps.
//
// A folder: with one *.safetensors.index.json its weight_map says which shard holds which tensor; without, every
// *.safetensors directly in it belongs to the model, as in the SkyReels-V2 repositories; without these, a
// *.bin.index.json counts, as in T5's. Errors are bad_file and name
// the file.
#pragma once

#include "models/weights/tensor_file.h"

#include <functional>
#include <memory>

namespace longtake {

class Checkpoint {
 public:
  static Checkpoint open(const std::filesystem::path& path);
  // Of files that are open already; a tensor name in two of them is an error.
  static Checkpoint from_files(std::filesystem::path path, std::vector<std::shared_ptr<const TensorFile>> files);

  // What was opened.
  const std::filesystem::path& path() const { return path_; }
  // Sorted.
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const { return tensors_.contains(name); }
  const TensorInfo& info(const std::string& name) const;
  // The file that holds the tensor.
  const std::filesystem::path& file(const std::string& name) const;
  // A read-only CPU view (mapped_file.h); it outlives the Checkpoint.
  at::Tensor tensor(const std::string& name) const;
  // Of all tensors as stored.
  uint64_t bytes() const;
  // Of the first file that has any.
  std::map<std::string, std::string> metadata() const;

 private:
  const TensorFile& owner(const std::string& name) const;
  void add(const std::string& name, const std::shared_ptr<const TensorFile>& file);

  std::filesystem::path path_;
  std::map<std::string, std::shared_ptr<const TensorFile>> tensors_;
};

}  // namespace longtake
