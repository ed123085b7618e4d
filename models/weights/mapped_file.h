// The bytes of a file, memory-mapped read-only, kept alive by whoever shares the object.
//
// Tensors that point into the map hold it through their deleter, so a checkpoint costs address space, not memory. The
// map is read-only: writing into such a tensor is a fault, models treat weights as immutable. A file that another
// program truncates while it is mapped cannot be survived (SIGBUS); writers here replace files by rename, which is
// safe.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace longtake {

class MappedFile {
 public:
  // Throws Error (bad_file) where the path is missing, a directory or unreadable.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  // Bytes that are in memory already; `path` only serves messages.
  static std::shared_ptr<const MappedFile> from_bytes(std::vector<uint8_t> bytes, std::filesystem::path path);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }
  // " (this is ..., not ...)" where the first bytes betray another kind of file, else "".
  std::string guess() const;

 private:
  MappedFile() = default;

  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  bool mapped_ = false;
  std::vector<uint8_t> owned_;
  std::filesystem::path path_;
};

// A CPU tensor over `file` from byte `offset`, in element strides; the range must have been checked by the caller.
// Zero-copy, except where the address is not a multiple of the element size: then the tensor is a contiguous copy.
// Throws Error where a bool tensor holds other bytes than 0 and 1.
at::Tensor view_of(const std::shared_ptr<const MappedFile>& file, uint64_t offset, at::ScalarType dtype,
                   const std::vector<int64_t>& shape, const std::vector<int64_t>& strides);

// Strides of a contiguous (row-major) tensor. The shape must have passed checked_bytes.
std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& shape);

// Bytes of a contiguous tensor, or nullopt where sizes are negative, overflow, or there are more than 64 dimensions.
std::optional<uint64_t> checked_bytes(const std::vector<int64_t>& shape, at::ScalarType dtype);

}  // namespace longtake
