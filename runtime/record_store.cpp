#include "runtime/record_store.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/pending_file.h"
#include "base/utf8.h"
#include "models/weights/safetensors.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

constexpr const char* kData = ".safetensors";
constexpr const char* kMarker = ".done";
constexpr uintmax_t kSmallFile = 1 << 20;

uint32_t crc_of(std::span<const uint8_t> bytes) {
  return static_cast<uint32_t>(crc32_z(crc32_z(0, nullptr, 0), bytes.data(), bytes.size()));
}

struct Marker {
  uint64_t bytes = 0;
  uint32_t crc = 0;
};

Marker read_marker(const fs::path& path) {
  const auto json = nlohmann::json::parse(read_small_file(path), nullptr, /*allow_exceptions=*/false);
  const auto whole = [&](const char* key) -> uint64_t {
    if (!json.is_object() || json.size() != 2 || !json.contains(key) || !json[key].is_number_unsigned())
      fail_file("{} is damaged: a marker holds the numbers bytes and crc32; begin again with --overwrite-run", path.string());
    return json[key].get<uint64_t>();
  };
  return {whole("bytes"), static_cast<uint32_t>(whole("crc32"))};
}

std::shared_ptr<const MappedFile> open_checked(const fs::path& data, const Marker& marker) {
  auto file = MappedFile::open(data);
  if (file->bytes().size() != marker.bytes)
    fail_file("{} is damaged: expected {} bytes, found {}; begin again with --overwrite-run", data.string(), marker.bytes,
              file->bytes().size());
  if (crc_of(file->bytes()) != marker.crc)
    fail_file("{} is damaged: its bytes are not those that were written (CRC-32); begin again with --overwrite-run", data.string());
  return file;
}

}  // namespace

void write_small_file(const fs::path& path, const std::string& text) {
  PendingFile file(path);
  const int fd = ::open(file.temporary().c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC);
  if (fd < 0) throw Error(ExitCode::bad_file, write_error(path, errno));
  const ssize_t written = ::write(fd, text.data(), text.size());
  const int error = written < 0 ? errno : written != static_cast<ssize_t>(text.size()) ? ENOSPC : 0;
  ::close(fd);
  if (error != 0) throw Error(ExitCode::bad_file, write_error(path, error));
  file.commit();
}

std::string read_small_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_file("{} cannot be read ({})", path.string(), std::strerror(errno));
  std::string text;
  char part[4096];
  do {
    file.read(part, sizeof(part));
    if (file.bad()) fail_file("{} cannot be read", path.string());
    text.append(part, static_cast<size_t>(file.gcount()));
    if (text.size() > kSmallFile) fail_file("{} is larger than a megabyte and cannot be a file of a run folder", path.string());
  } while (file);
  return text;
}

RecordStore::RecordStore(fs::path folder) : folder_(std::move(folder)) {
  for (const auto& entry : fs::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(kMarker)) names_.insert(record_of(name));
  }
}

std::set<std::string> RecordStore::names() const {
  const std::lock_guard lock(mutex_);
  return names_;
}

bool RecordStore::contains(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return names_.contains(name);
}

std::string RecordStore::record_of(const std::string& file) {
  for (const std::string_view end : {kData, kMarker})
    if (file.ends_with(end)) return file.substr(0, file.size() - end.size());
  return "";
}

bool RecordStore::is_leftover(const std::string& file) {
  return file.ends_with(".part") || file.find(".part-") != std::string::npos;
}

void RecordStore::save(const std::string& name, const State& state) {
  erase(name);  // the marker first: new data never stands beside an old marker
  save_safetensors(data(name), state.tensors());
  const auto file = MappedFile::open(data(name));
  nlohmann::json json;
  json["bytes"] = file->bytes().size();
  json["crc32"] = crc_of(file->bytes());
  write_small_file(marker(name), json.dump() + "\n");
  const std::lock_guard lock(mutex_);
  names_.insert(name);
}

State RecordStore::load(const std::string& name) const {
  LONGTAKE_CHECK(contains(name), "there is no record '{}'", name);
  const SafetensorsFile file(open_checked(data(name), read_marker(marker(name))));
  std::map<std::string, at::Tensor> tensors;
  for (const TensorInfo& info : file.tensors()) tensors[info.name] = file.tensor(info.name).clone();
  return {std::move(tensors), data(name).string()};
}

void RecordStore::check(const std::string& name) const {
  LONGTAKE_CHECK(contains(name), "there is no record '{}'", name);
  open_checked(data(name), read_marker(marker(name)));
}

void RecordStore::erase(const std::string& name) {
  std::error_code error;
  for (const fs::path& path : {marker(name), data(name)}) {
    fs::remove(path, error);
    if (error) fail_file("{} cannot be removed ({})", path.string(), error.message());
  }
  const std::lock_guard lock(mutex_);
  names_.erase(name);
}

}  // namespace longtake
