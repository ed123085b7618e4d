#include "models/weights/zip_index.h"

#include <cstring>
#include <optional>

#include "base/error.h"

namespace longtake {
namespace {

// Little-endian reads with bounds; every position comes from the file and is untrusted.
class Reader {
 public:
  Reader(std::span<const uint8_t> bytes, const std::string& what) : bytes_(bytes), what_(what) {}

  template <class T>
  T read(uint64_t at) const {
    check(at, sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + at, sizeof(T));
    return value;
  }
  std::string text(uint64_t at, uint64_t length) const {
    check(at, length);
    return std::string(reinterpret_cast<const char*>(bytes_.data()) + at, length);
  }
  void check(uint64_t at, uint64_t length) const {
    if (at > bytes_.size() || length > bytes_.size() - at) damaged("an offset points beyond the end of the file");
  }
  uint64_t size() const { return bytes_.size(); }
  [[noreturn]] void damaged(const std::string& why) const {
    fail_file("{}: the zip archive is damaged ({}); incomplete download?", what_, why);
  }

 private:
  std::span<const uint8_t> bytes_;
  const std::string& what_;
};

struct Directory {
  uint64_t entries, bytes, offset;
};

constexpr uint32_t end_signature = 0x06054b50, end64_signature = 0x06064b50, locator_signature = 0x07064b50;
constexpr uint32_t entry_signature = 0x02014b50, local_signature = 0x04034b50;

// The end record is the last thing in the file, before a comment of at most 65535 bytes.
std::optional<uint64_t> find_end(const Reader& reader) {
  constexpr uint64_t fixed = 22;
  for (uint64_t comment = 0; comment <= 0xffff && comment + fixed <= reader.size(); ++comment) {
    const uint64_t at = reader.size() - fixed - comment;
    if (reader.read<uint32_t>(at) == end_signature && reader.read<uint16_t>(at + 20) == comment) return at;
  }
  return std::nullopt;
}

Directory find_directory(const Reader& reader) {
  const auto end = find_end(reader);
  if (!end) reader.damaged("its table of contents is missing");
  uint64_t limit = *end;
  Directory directory{reader.read<uint16_t>(*end + 10), reader.read<uint32_t>(*end + 12),
                      reader.read<uint32_t>(*end + 16)};
  if (*end >= 20 && reader.read<uint32_t>(*end - 20) == locator_signature) {
    const uint64_t at = reader.read<uint64_t>(*end - 12);
    reader.check(at, 56);
    if (reader.read<uint32_t>(at) != end64_signature) reader.damaged("no zip64 record where one should be");
    directory = {reader.read<uint64_t>(at + 32), reader.read<uint64_t>(at + 40), reader.read<uint64_t>(at + 48)};
    limit = at;
  }
  if (directory.offset > limit || directory.bytes > limit - directory.offset) {
    reader.damaged("its table of contents lies outside the file");
  }
  return directory;
}

struct Sizes {
  uint64_t raw, stored, local;
};

// Values that do not fit into 32 bits follow, in this order, in the extra field of kind 1.
void read_zip64(const Reader& reader, uint64_t at, uint64_t length, Sizes& sizes) {
  const uint64_t end = at + length;
  while (at + 4 <= end) {
    const uint16_t kind = reader.read<uint16_t>(at), bytes = reader.read<uint16_t>(at + 2);
    at += 4;
    if (bytes > end - at) reader.damaged("an extra field is too long");
    if (kind == 1) {
      uint64_t left = bytes;
      for (uint64_t* value : {&sizes.raw, &sizes.stored, &sizes.local}) {
        if (*value != 0xffffffff) continue;
        if (left < 8) reader.damaged("a zip64 field is too short");
        *value = reader.read<uint64_t>(at);
        at += 8;
        left -= 8;
      }
      return;
    }
    at += bytes;
  }
}

}  // namespace

std::map<std::string, ZipEntry> read_zip_index(std::span<const uint8_t> bytes, const std::string& what) {
  const Reader reader(bytes, what);
  const Directory directory = find_directory(reader);
  std::map<std::string, ZipEntry> index;
  uint64_t at = directory.offset;
  const uint64_t directory_end = directory.offset + directory.bytes;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    if (directory_end - at < 46) reader.damaged("its table of contents ends early");
    if (reader.read<uint32_t>(at) != entry_signature) reader.damaged("its table of contents holds something else");
    const uint16_t flags = reader.read<uint16_t>(at + 8), method = reader.read<uint16_t>(at + 10);
    Sizes sizes{reader.read<uint32_t>(at + 24), reader.read<uint32_t>(at + 20), reader.read<uint32_t>(at + 42)};
    const uint64_t name_length = reader.read<uint16_t>(at + 28), extra_length = reader.read<uint16_t>(at + 30);
    const uint64_t comment_length = reader.read<uint16_t>(at + 32);
    if (name_length + extra_length + comment_length > directory_end - at - 46) {
      reader.damaged("its table of contents ends early");
    }
    const std::string name = reader.text(at + 46, name_length);
    read_zip64(reader, at + 46 + name_length, extra_length, sizes);
    at += 46 + name_length + extra_length + comment_length;

    if ((flags & 1) != 0) fail_file("{}: the entry '{}' of the zip archive is encrypted", what, name);
    if (method != 0 || sizes.raw != sizes.stored) {
      fail_file("{}: the entry '{}' of the zip archive is compressed; store it uncompressed (torch.save, numpy.savez)", what,
                name);
    }
    reader.check(sizes.local, 30);
    if (reader.read<uint32_t>(sizes.local) != local_signature) reader.damaged("an entry is not where it should be");
    const uint64_t local_name = reader.read<uint16_t>(sizes.local + 26);
    const uint64_t data = sizes.local + 30 + local_name + reader.read<uint16_t>(sizes.local + 28);
    if (reader.text(sizes.local + 30, local_name) != name) reader.damaged("an entry has two names");
    if (data > directory.offset || sizes.raw > directory.offset - data) {
      reader.damaged("the entry '" + name + "' runs into the table of contents");
    }
    if (!index.emplace(name, ZipEntry{data, sizes.raw}).second) reader.damaged("two entries are named '" + name + "'");
  }
  return index;
}

}  // namespace longtake
