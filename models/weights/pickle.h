// Reading torch.save files (.pth, .pt; the zip format of PyTorch 1.6 and later) that hold a state dict.
//
// Zero-copy through a memory map like .safetensors; tensors keep their strides, storages may be shared. Nothing of the
// file is ever run: see unpickle.h. A state dict inside {"state_dict": ...}, {"model": ...} or {"module": ...} is
// unwrapped, values that are no tensors are skipped. Errors are bad_file.
#pragma once

#include "models/weights/mapped_file.h"
#include "models/weights/tensor_file.h"

namespace longtake {

class TorchFile : public TensorFile {
 public:
  explicit TorchFile(const std::filesystem::path& path);
  explicit TorchFile(std::shared_ptr<const MappedFile> file);
  // For bytes in memory; `path` only serves messages.
  static TorchFile from_bytes(std::vector<uint8_t> bytes, std::filesystem::path path);

 private:
  at::Tensor view(size_t index) const override;
  void read();

  std::shared_ptr<const MappedFile> file_;
  std::vector<std::vector<int64_t>> strides_;  // parallel to tensors_
};

}  // namespace longtake
