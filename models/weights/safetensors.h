// Reading and writing .safetensors files.
//
// The format: 8 bytes little-endian header length N, N bytes of JSON {"name": {"dtype", "shape", "data_offsets":
// [begin, end]},
// "__metadata__": {text: text}}, then the data; offsets count from the end of the header, every byte of the data
// belongs to exactly one tensor. Reading is zero-copy through a memory map and checks everything against the file size
// first, so that a truncated or hostile file is an Error (bad_file), never a fault. dtypes: F64 F32 F16 BF16 I64 I32
// I16 I8 U8 BOOL F8_E4M3 F8_E5M2.
#pragma once

#include "models/weights/mapped_file.h"
#include "models/weights/tensor_file.h"

namespace longtake {

class SafetensorsFile : public TensorFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  explicit SafetensorsFile(std::shared_ptr<const MappedFile> file);
  // For bytes in memory; `path` only serves messages.
  static SafetensorsFile from_bytes(std::vector<uint8_t> bytes, std::filesystem::path path);

 private:
  at::Tensor view(size_t index) const override;
  void read_header();

  std::shared_ptr<const MappedFile> file_;
};

// Writes a file tensor by tensor, in any order, so that memory holds one tensor at a time. The file appears under its
// name only with finish(); a writer that is destroyed before removes what it wrote. Errors (bad_file) name the path:
// not writable, disk full.
class SafetensorsWriter {
 public:
  struct Entry {
    std::string name;
    at::ScalarType dtype;
    std::vector<int64_t> shape;
  };
  SafetensorsWriter(std::filesystem::path path, std::vector<Entry> entries,
                    const std::map<std::string, std::string>& metadata);
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // The tensor may be strided or on a GPU; shape and dtype must be the entry's.
  void write(const std::string& name, const at::Tensor& tensor);
  // Checks that every tensor was written, flushes to disk and renames.
  void finish();

 private:
  struct Slot {
    at::ScalarType dtype;
    std::vector<int64_t> shape;
    uint64_t offset;  // in the file
    uint64_t bytes;
    bool written = false;
  };
  void write_at(uint64_t offset, const void* data, uint64_t bytes);

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
  std::map<std::string, Slot> slots_;
};

void save_safetensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace longtake
