#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/weights/safetensors.h"
#include "models/weights/safetensors_dtype.h"

namespace longtake {

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path, std::vector<Entry> entries,
                                     const std::map<std::string, std::string>& metadata)
    : path_(std::move(path)), temporary_(path_.string() + fmt::format(".{}.part", ::getpid())) {
  // Wide elements first keeps every tensor aligned to its element size; names make the order reproducible.
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    const size_t wide_a = c10::elementSize(a.dtype), wide_b = c10::elementSize(b.dtype);
    return wide_a != wide_b ? wide_a > wide_b : a.name < b.name;
  });
  nlohmann::json json = nlohmann::json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const Entry& entry : entries) {
    const auto bytes = checked_bytes(entry.shape, entry.dtype);
    const auto dtype = safetensors_dtype_name(entry.dtype);
    LONGTAKE_CHECK(bytes && entry.name != "__metadata__", "tensor '{}' cannot be stored", entry.name);
    LONGTAKE_CHECK(dtype, "tensor '{}': safetensors has no dtype {}", entry.name, c10::toString(entry.dtype));
    LONGTAKE_CHECK(slots_.emplace(entry.name, Slot{entry.dtype, entry.shape, offset, *bytes}).second,
                   "tensor '{}' is named twice", entry.name);
    json[entry.name] = {{"dtype", *dtype}, {"shape", entry.shape}, {"data_offsets", {offset, offset + *bytes}}};
    offset += *bytes;
  }
  std::string header;
  try {
    header = json.dump();
  } catch (const nlohmann::json::exception& error) {
    fail_file("{}: cannot be written, a name or the metadata is not UTF-8 ({})", path_.string(), error.what());
  }
  header.resize((header.size() + 7) / 8 * 8, ' ');
  for (auto& [name, slot] : slots_) slot.offset += 8 + header.size();

  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_file("{}: cannot be written ({}); check the folder", temporary_.string(), std::strerror(errno));
  try {
    const uint64_t length = header.size();
    write_at(0, &length, 8);
    write_at(8, header.data(), header.size());
  } catch (...) {  // no destructor runs for a constructor that throws
    ::close(fd_);
    ::unlink(temporary_.c_str());
    throw;
  }
}

SafetensorsWriter::~SafetensorsWriter() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void SafetensorsWriter::write_at(uint64_t offset, const void* data, uint64_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::pwrite(fd_, next, std::min<uint64_t>(bytes, 1u << 30), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) {
      const int code = done < 0 ? errno : ENOSPC;
      fail_file("{}: writing failed ({}){}", path_.string(), std::strerror(code),
                code == ENOSPC || code == EDQUOT ? "; make room on this disk" : "");
    }
    next += done;
    offset += static_cast<uint64_t>(done);
    bytes -= static_cast<uint64_t>(done);
  }
}

void SafetensorsWriter::write(const std::string& name, const at::Tensor& tensor) {
  const auto it = slots_.find(name);
  LONGTAKE_CHECK(it != slots_.end(), "tensor '{}' was not announced", name);
  Slot& slot = it->second;
  LONGTAKE_CHECK(tensor.scalar_type() == slot.dtype && tensor.sizes() == slot.shape,
                 "tensor '{}' is {} {}, announced was {} {}", name, c10::toString(tensor.scalar_type()),
                 shape_text(tensor.sizes().vec()), c10::toString(slot.dtype), shape_text(slot.shape));
  const at::Tensor plain = tensor.detach().to(at::kCPU).contiguous();
  write_at(slot.offset, plain.const_data_ptr(), slot.bytes);
  slot.written = true;
}

void SafetensorsWriter::finish() {
  LONGTAKE_CHECK(fd_ >= 0, "finished twice");
  for (const auto& [name, slot] : slots_) LONGTAKE_CHECK(slot.written, "tensor '{}' was never written", name);
  const bool synced = ::fsync(fd_) == 0;
  const int sync_code = errno;
  const bool closed = ::close(fd_) == 0;
  const int code = synced ? errno : sync_code;
  fd_ = -1;
  if (!synced || !closed) {
    ::unlink(temporary_.c_str());
    fail_file("{}: writing failed ({})", path_.string(), std::strerror(code));
  }
  std::error_code error;
  std::filesystem::rename(temporary_, path_, error);
  if (error) {
    ::unlink(temporary_.c_str());
    fail_file("{}: cannot be put in place ({})", path_.string(), error.message());
  }
}

void save_safetensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsWriter::Entry> entries;
  for (const auto& [name, tensor] : tensors) {
    entries.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  }
  SafetensorsWriter writer(path, std::move(entries), metadata);
  for (const auto& [name, tensor] : tensors) writer.write(name, tensor);
  writer.finish();
}

}  // namespace longtake
