#include "models/weights/pickle.h"

#include <array>

#include "base/error.h"
#include "models/weights/unpickle.h"
#include "models/weights/zip_index.h"

namespace longtake {
namespace {

using Kind = PickleValue::Kind;

constexpr uint64_t max_pickle = 16u << 20;  // about 100,000 tensors

std::optional<at::ScalarType> storage_dtype(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, at::ScalarType>, 10> table{{
      {"DoubleStorage", at::kDouble},
      {"FloatStorage", at::kFloat},
      {"HalfStorage", at::kHalf},
      {"BFloat16Storage", at::kBFloat16},
      {"LongStorage", at::kLong},
      {"IntStorage", at::kInt},
      {"ShortStorage", at::kShort},
      {"CharStorage", at::kChar},
      {"ByteStorage", at::kByte},
      {"BoolStorage", at::kBool},
  }};
  for (const auto& [known, dtype] : table) {
    if (known == name) return dtype;
  }
  return std::nullopt;
}

// The dict that holds the tensors: the root or what it wraps.
const PickleValue& state_dict(const Pickle& pickle, const std::string& path) {
  const PickleValue* dict = &pickle[pickle.root];
  for (int depth = 0; depth < 4; ++depth) {
    const PickleValue* inner = nullptr;
    for (const std::string_view wrapper : {"state_dict", "model", "module"}) {
      for (size_t i = 0; dict->kind == Kind::dict && i < dict->items.size() && !inner; i += 2) {
        const PickleValue &key = pickle[dict->items[i]], &value = pickle[dict->items[i + 1]];
        if (key.kind == Kind::text && key.text == wrapper && value.kind == Kind::dict) inner = &value;
      }
    }
    if (!inner) break;
    dict = inner;
  }
  if (dict->kind != Kind::dict) fail_file("{}: holds no state dict but something else", path);
  return *dict;
}

std::vector<int64_t> numbers(const Pickle& pickle, const PickleValue& tuple, const std::string& where) {
  std::vector<int64_t> result;
  for (const uint32_t item : tuple.items) {
    if (pickle[item].kind != Kind::integer || pickle[item].integer < 0) {
      fail_file("{}: its sizes or strides are not whole numbers from 0", where);
    }
    result.push_back(pickle[item].integer);
  }
  return result;
}

// One past the last element that the strides reach from `offset`, or nullopt on overflow.
std::optional<int64_t> reach(int64_t offset, const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  int64_t end = offset;
  for (size_t i = 0; i < shape.size(); ++i) {
    int64_t step = 0;
    if (shape[i] == 0) return offset;
    if (__builtin_mul_overflow(shape[i] - 1, strides[i], &step) || __builtin_add_overflow(end, step, &end)) {
      return std::nullopt;
    }
  }
  if (__builtin_add_overflow(end, 1, &end)) return std::nullopt;
  return end;
}

}  // namespace

TorchFile::TorchFile(const std::filesystem::path& path) : TorchFile(MappedFile::open(path)) {}

TorchFile::TorchFile(std::shared_ptr<const MappedFile> file) : TensorFile(file->path()), file_(std::move(file)) {
  read();
}

TorchFile TorchFile::from_bytes(std::vector<uint8_t> bytes, std::filesystem::path path) {
  return TorchFile(MappedFile::from_bytes(std::move(bytes), std::move(path)));
}

void TorchFile::read() {
  const std::string path = path_.string();
  const auto bytes = file_->bytes();
  if (bytes.size() < 4 || std::memcmp(bytes.data(), "PK\3\4", 4) != 0) {
    fail_file("{}: is no torch.save file of PyTorch 1.6 or later{}", path, file_->guess());
  }
  const auto entries = read_zip_index(bytes, path);

  // All entries lie in one folder, whose name is free.
  std::string folder;
  const ZipEntry* program = nullptr;
  for (const auto& [name, entry] : entries) {
    const size_t slash = name.find('/');
    if (slash == std::string::npos || name.substr(slash) != "/data.pkl") continue;
    if (program) fail_file("{}: holds two pickles; expected one state dict", path);
    folder = name.substr(0, slash);
    program = &entry;
  }
  if (!program) fail_file("{}: is a zip archive, but torch.save did not write it (it holds no data.pkl)", path);
  if (program->bytes > max_pickle)
    fail_file("{}: its pickle of {} bytes is too large for a model", path, program->bytes);
  if (const auto order = entries.find(folder + "/byteorder"); order != entries.end()) {
    const ZipEntry& entry = order->second;
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + entry.offset, entry.bytes);
    if (text != "little") fail_file("{}: was saved on a big-endian machine, which cannot be read here", path);
  }

  const Pickle pickle = read_pickle(bytes.subspan(program->offset, program->bytes), path);
  const PickleValue& dict = state_dict(pickle, path);
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    const PickleValue &key = pickle[dict.items[i]], &value = pickle[dict.items[i + 1]];
    if (value.kind != Kind::tensor) continue;
    if (key.kind != Kind::text) fail_file("{}: holds a tensor whose name is not a text", path);
    const std::string where = fmt::format("{}: tensor '{}'", path, key.text);

    const PickleValue& storage = pickle[value.items[0]];
    const std::string_view type = pickle[storage.items[0]].name;
    const auto dtype = storage_dtype(type);
    if (!dtype) fail_file("{}: its storage type 'torch.{}' is unknown", where, type);
    const auto data = entries.find(fmt::format("{}/data/{}", folder, pickle[storage.items[1]].text));
    if (data == entries.end()) fail_file("{}: its storage '{}' is missing", where, pickle[storage.items[1]].text);
    const uint64_t item = c10::elementSize(*dtype);
    const int64_t stored = pickle[storage.items[2]].integer;
    if (stored < 0 || static_cast<uint64_t>(stored) > data->second.bytes / item) {
      fail_file("{}: its storage should hold {} elements but has {} bytes; the file is damaged", where, stored,
                data->second.bytes);
    }

    TensorInfo info{std::string(key.text), *dtype, numbers(pickle, pickle[value.items[2]], where)};
    std::vector<int64_t> strides = numbers(pickle, pickle[value.items[3]], where);
    const int64_t offset = pickle[value.items[1]].integer;
    const auto size = checked_bytes(info.shape, *dtype);
    if (!size || strides.size() != info.shape.size()) {
      fail_file("{}: the shape {} with {} strides is impossible", where, shape_text(info.shape), strides.size());
    }
    const auto end = offset < 0 ? std::nullopt : reach(offset, info.shape, strides);
    if (!end || *end > stored) {
      fail_file("{}: shape {} with strides {} from {} leaves its storage of {} elements; the file is damaged", where,
                shape_text(info.shape), shape_text(strides), offset, stored);
    }
    // An expanded tensor can claim any size at no cost in the file, and would be copied in full.
    if (*size / item > static_cast<uint64_t>(stored)) {
      fail_file("{}: is larger ({} elements) than its storage ({}); save a contiguous copy", where, *size / item,
                stored);
    }
    info.offset = data->second.offset + static_cast<uint64_t>(offset) * item;
    info.bytes = *size;
    if (!add(std::move(info))) fail_file("{}: is in the state dict twice", where);
    strides_.push_back(std::move(strides));
  }
  if (tensors_.empty()) fail_file("{}: holds no state dict: no tensors were found", path);
}

at::Tensor TorchFile::view(size_t index) const {
  const TensorInfo& info = tensors_[index];
  return view_of(file_, info.offset, info.dtype, info.shape, strides_[index]);
}

}  // namespace longtake
