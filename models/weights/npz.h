// Reading .npz files: zip archives of NumPy arrays (.npy), as numpy.savez writes them.
//
// Zero-copy through a memory map like .safetensors. An array: "\x93NUMPY", a version, the length of a header, the header
// {'descr': '<f8', 'fortran_order': False, 'shape': (1, 4096)} as Python writes it, the elements. Understood are
// little-endian numbers and bools in C order, stored without compression. Everything is checked against the file's size
// first; whatever else is an Error (bad_file). Source: the NumPy documentation of the npy format, versions 1 to 3.
#pragma once

#include <span>
#include <string_view>

#include "models/weights/mapped_file.h"
#include "models/weights/tensor_file.h"

namespace longtake {

// The header of one array, and where its elements begin.
struct NpyHeader {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t data = 0;  // bytes from the array's start
};

// `bytes`: a whole .npy file; `what` begins every message. The elements lie within `bytes`, and fill it.
NpyHeader read_npy_header(std::span<const uint8_t> bytes, const std::string& what);

// The tensors have the entries' names without ".npy".
class NpzFile : public TensorFile {
 public:
  explicit NpzFile(const std::filesystem::path& path);
  explicit NpzFile(std::shared_ptr<const MappedFile> file);
  // For bytes in memory; `path` only serves messages.
  static NpzFile from_bytes(std::vector<uint8_t> bytes, std::filesystem::path path);

 private:
  at::Tensor view(size_t index) const override;

  std::shared_ptr<const MappedFile> file_;
};

}  // namespace longtake
