#include "models/weights/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <string_view>

#include <ATen/ops/as_strided.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include "base/error.h"

namespace longtake {

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail_file("{}: cannot be opened ({}); check the path", path.string(), std::strerror(errno));
  struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } closer{fd};
  struct stat info {};
  if (::fstat(fd, &info) != 0) fail_file("{}: cannot be examined ({})", path.string(), std::strerror(errno));
  if (!S_ISREG(info.st_mode)) fail_file("{}: expected a file, found something else (a folder?)", path.string());

  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  file->size_ = static_cast<size_t>(info.st_size);
  if (file->size_ > 0) {
    void* data = ::mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) fail_file("{}: cannot be mapped into memory ({})", path.string(), std::strerror(errno));
    file->data_ = static_cast<const uint8_t*>(data);
    file->mapped_ = true;
  }
  return file;
}

std::shared_ptr<const MappedFile> MappedFile::from_bytes(std::vector<uint8_t> bytes, std::filesystem::path path) {
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->owned_ = std::move(bytes);
  file->data_ = file->owned_.data();
  file->size_ = file->owned_.size();
  file->path_ = std::move(path);
  return file;
}

MappedFile::~MappedFile() {
  if (mapped_) ::munmap(const_cast<uint8_t*>(data_), size_);
}

std::string MappedFile::guess() const {
  const std::string_view head(reinterpret_cast<const char*>(data_), std::min<size_t>(size_, 64));
  if (head.empty()) return " (the file is empty: incomplete download?)";
  if (head.starts_with("version https://git-lfs")) {
    return " (this is a Git LFS pointer, not the file itself: run 'git lfs pull', or download it again)";
  }
  if (head.starts_with("<!") || head.starts_with("<html")) return " (this is a web page: download the file itself)";
  if (head.starts_with("PK\3\4")) return " (this is a zip: a .pth file under another name?)";
  if (head.starts_with("GGUF")) return " (this is a GGUF file)";
  if (head.starts_with("\x80\x02")) return " (this is a bare pickle, the torch.save format before PyTorch 1.6)";
  if (head.size() > 8 && head[8] == '{') return " (it begins like a .safetensors file)";
  if (head.find_first_not_of('\0') == std::string_view::npos) return " (it begins with zeros: incomplete download?)";
  return "";
}

std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<int64_t>(shape[i], 1);
  return strides;
}

std::optional<uint64_t> checked_bytes(const std::vector<int64_t>& shape, at::ScalarType dtype) {
  if (shape.size() > 64) return std::nullopt;
  // Strides are products of max(size, 1), so those must not overflow either, even where the tensor is empty.
  int64_t product = static_cast<int64_t>(c10::elementSize(dtype));
  bool empty = false;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(product, std::max<int64_t>(size, 1), &product)) return std::nullopt;
    empty |= size == 0;
  }
  return empty ? 0 : static_cast<uint64_t>(product);
}

at::Tensor view_of(const std::shared_ptr<const MappedFile>& file, uint64_t offset, at::ScalarType dtype,
                   const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  const auto options = at::TensorOptions().dtype(dtype).device(at::kCPU);
  const size_t item = c10::elementSize(dtype);
  // One past the last element that the strides reach, in elements; 0 for an empty tensor.
  uint64_t extent = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 0) extent = 0;
    if (extent != 0) extent += static_cast<uint64_t>(shape[i] - 1) * static_cast<uint64_t>(strides[i]);
  }
  const auto bytes = file->bytes();
  LONGTAKE_CHECK(offset <= bytes.size() && extent <= (bytes.size() - offset) / item, "the range of a tensor leaves {}",
                 file->path().string());
  if (extent == 0) return at::empty(shape, options);

  const uint8_t* data = bytes.data() + offset;
  if (dtype == at::kBool) {
    for (uint64_t i = 0; i < extent; ++i) {
      if (data[i] > 1)
        fail_file("{}: a bool tensor holds the byte {}; the file is damaged", file->path().string(), data[i]);
    }
  }
  if (reinterpret_cast<uintptr_t>(data) % item != 0) {
    at::Tensor storage = at::empty({static_cast<int64_t>(extent)}, options);
    std::memcpy(storage.data_ptr(), data, extent * item);
    return at::as_strided(storage, shape, strides);
  }
  // from_blob wants a mutable pointer; nothing writes through it (see the header).
  return at::from_blob(
      const_cast<uint8_t*>(data), shape, strides, [keep = file](void*) {}, options);
}

}  // namespace longtake
