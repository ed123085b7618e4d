#include "models/weights/safetensors.h"

#include <nlohmann/json.hpp>

#include <bit>

#include "base/error.h"
#include "models/weights/safetensors_dtype.h"
#include "base/strict_json.h"

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

namespace longtake {
namespace {

using Json = nlohmann::json;

constexpr uint64_t max_header = 100'000'000;  // the bound of the reference implementation

std::vector<int64_t> read_shape(const Json& entry, const std::string& where) {
  const auto it = entry.find("shape");
  if (it == entry.end() || !it->is_array()) fail_file("{}: 'shape' is not a list", where);
  std::vector<int64_t> shape;
  for (const Json& size : *it) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
      fail_file("{}: 'shape' holds {}; expected whole numbers from 0", where, size.dump());
    }
    shape.push_back(static_cast<int64_t>(size.get<uint64_t>()));
  }
  return shape;
}

std::pair<uint64_t, uint64_t> read_offsets(const Json& entry, const std::string& where) {
  const auto it = entry.find("data_offsets");
  if (it == entry.end() || !it->is_array() || it->size() != 2 || !(*it)[0].is_number_unsigned() ||
      !(*it)[1].is_number_unsigned()) {
    fail_file("{}: 'data_offsets' is not a pair of whole numbers from 0", where);
  }
  const uint64_t begin = (*it)[0].get<uint64_t>(), end = (*it)[1].get<uint64_t>();
  if (begin > end) fail_file("{}: its data ends ({}) before it begins ({})", where, end, begin);
  return {begin, end};
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : SafetensorsFile(MappedFile::open(path)) {}

SafetensorsFile::SafetensorsFile(std::shared_ptr<const MappedFile> file)
    : TensorFile(file->path()), file_(std::move(file)) {
  read_header();
}

SafetensorsFile SafetensorsFile::from_bytes(std::vector<uint8_t> bytes, std::filesystem::path path) {
  return SafetensorsFile(MappedFile::from_bytes(std::move(bytes), std::move(path)));
}

void SafetensorsFile::read_header() {
  const std::string path = path_.string();
  const auto bytes = file_->bytes();
  if (bytes.size() < 8) {
    fail_file("{}: {} bytes are too few for a .safetensors file{}; download it again", path, bytes.size(),
              file_->guess());
  }
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  if (header > max_header) {
    fail_file("{}: is no .safetensors file: its header would take {} bytes{}", path, header, file_->guess());
  }
  if (header > bytes.size() - 8) {
    fail_file("{}: its header takes {} bytes, but the file ends after {}; incomplete download?", path, header,
              bytes.size() - 8);
  }
  const uint64_t start = 8 + header, data = bytes.size() - start;
  const Json json = parse_strict_json(bytes.subspan(8, header), path + ": the header");

  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object()) fail_file("{}: '__metadata__' is not an object", path);
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) fail_file("{}: '__metadata__' holds '{}', which is no text", path, key);
        metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    const std::string where = fmt::format("{}: tensor '{}'", path, name);
    if (!entry.is_object()) fail_file("{}: its entry is not an object", where);
    const auto dtype_name = entry.find("dtype");
    if (dtype_name == entry.end() || !dtype_name->is_string()) fail_file("{}: 'dtype' is not a text", where);
    const auto dtype = safetensors_dtype(dtype_name->get<std::string>());
    if (!dtype) {
      fail_file("{}: unknown dtype '{}' (known are {})", where, dtype_name->get<std::string>(), safetensors_dtypes());
    }
    TensorInfo info{name, *dtype, read_shape(entry, where)};
    const auto [begin, end] = read_offsets(entry, where);
    const auto expected = checked_bytes(info.shape, info.dtype);
    if (!expected) fail_file("{}: its shape {} is too large", where, shape_text(info.shape));
    if (*expected != end - begin) {
      fail_file("{}: shape {} of {} takes {} bytes, but the file gives it {}; the file is damaged", where,
                shape_text(info.shape), dtype_name->get<std::string>(), *expected, end - begin);
    }
    if (end > data) {
      fail_file("{}: its data ends at byte {}, but the file holds {} bytes of data; incomplete download?", where, end,
                data);
    }
    info.offset = start + begin;
    info.bytes = *expected;
    tensors_.push_back(std::move(info));
  }

  std::vector<TensorInfo> sorted = std::move(tensors_);
  tensors_.clear();
  std::sort(sorted.begin(), sorted.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  uint64_t next = start;
  for (TensorInfo& info : sorted) {
    if (info.offset != next) {
      fail_file("{}: the data of tensor '{}' {}; the file is damaged", path, info.name,
                info.offset < next ? "overlaps another tensor's" : "is preceded by bytes that belong to no tensor");
    }
    next += info.bytes;
    add(std::move(info));
  }
  if (next != bytes.size()) {
    fail_file("{}: {} bytes follow the last tensor; the file is damaged", path, bytes.size() - next);
  }
}

at::Tensor SafetensorsFile::view(size_t index) const {
  const TensorInfo& info = tensors_[index];
  return view_of(file_, info.offset, info.dtype, info.shape, contiguous_strides(info.shape));
}

}  // namespace longtake
