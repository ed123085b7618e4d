// Helpers for the weight tests: a temporary folder, and .safetensors files made by hand.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace longtake::test {

class TempFolder {
 public:
  TempFolder() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("longtake_weights_" + std::to_string(::getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(path_);
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// The eight length bytes, the header and `data` bytes of zeros.
inline std::vector<uint8_t> safetensors_bytes(const std::string& header, size_t data) {
  std::vector<uint8_t> bytes(8 + header.size() + data, 0);
  const uint64_t length = header.size();
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(length >> (8 * i));
  std::copy(header.begin(), header.end(), bytes.begin() + 8);
  return bytes;
}

struct ZipItem {
  std::string name, bytes;
};

// What to do wrong in zip_bytes.
struct ZipOptions {
  bool zip64 = false;  // sizes and offsets in zip64 records, as for archives above 4 GB
  std::string comment = {};
  uint16_t method = 0;
  uint16_t flags = 0;
  int entries = -1;  // the number that the end record claims
  int64_t directory_shift = 0;
  int64_t local_shift = 0;
  uint64_t extra_bytes = 0;  // that each entry claims
  std::string local_name = {};
};

// A zip archive of stored entries, without checksums (the reader does not look at them).
inline std::vector<uint8_t> zip_bytes(const std::vector<ZipItem>& items, const ZipOptions& options = {}) {
  std::string out;
  const auto put = [](std::string& to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) to += i < 8 ? static_cast<char>(value >> (8 * i)) : '\0';
  };
  std::string directory;
  for (const ZipItem& item : items) {
    const uint64_t at = out.size() + options.local_shift, size = item.bytes.size() + options.extra_bytes;
    const std::string local = options.local_name.empty() ? item.name : options.local_name;
    put(out, 0x04034b50, 4);
    put(out, 0, 22);
    put(out, local.size(), 2);
    put(out, 0, 2);
    out += local + item.bytes;

    std::string extra;
    if (options.zip64) {
      put(extra, 0x4246, 2);  // another field first, as torch.save pads
      put(extra, 3, 2);
      extra += "ZZZ";
      put(extra, 1, 2);
      put(extra, 24, 2);
      for (const uint64_t value : {size, size, at}) put(extra, value, 8);
    }
    const uint64_t none = 0xffffffff;
    put(directory, 0x02014b50, 4);
    put(directory, 0, 4);
    put(directory, options.flags, 2);
    put(directory, options.method, 2);
    put(directory, 0, 8);
    put(directory, options.zip64 ? none : size, 4);
    put(directory, options.zip64 ? none : size, 4);
    put(directory, item.name.size(), 2);
    put(directory, extra.size(), 2);
    put(directory, 0, 10);
    put(directory, options.zip64 ? none : at, 4);
    directory += item.name + extra;
  }
  const uint64_t start = out.size() + options.directory_shift;
  const uint64_t entries = options.entries < 0 ? items.size() : options.entries;
  out += directory;
  if (options.zip64) {
    const uint64_t record = out.size();
    put(out, 0x06064b50, 4);
    put(out, 44, 8);
    put(out, 0, 12);
    for (const uint64_t value : {entries, entries, directory.size(), start}) put(out, value, 8);
    put(out, 0x07064b50, 4);
    put(out, 0, 4);
    put(out, record, 8);
    put(out, 1, 4);
  }
  put(out, 0x06054b50, 4);
  put(out, 0, 4);
  put(out, options.zip64 ? 0xffff : entries, 2);
  put(out, options.zip64 ? 0xffff : entries, 2);
  put(out, options.zip64 ? 0xffffffff : directory.size(), 4);
  put(out, options.zip64 ? 0xffffffff : start, 4);
  put(out, options.comment.size(), 2);
  out += options.comment;
  return {out.begin(), out.end()};
}

}  // namespace longtake::test
