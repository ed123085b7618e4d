#include "models/weights/checkpoint.h"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <set>

#include "base/error.h"
#include "base/suggest.h"
#include "models/weights/npz.h"
#include "models/weights/pickle.h"
#include "models/weights/safetensors.h"
#include "base/strict_json.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view index_suffix = ".safetensors.index.json";
constexpr std::string_view torch_index_suffix = ".bin.index.json";

std::shared_ptr<const TensorFile> open_file(const fs::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".safetensors") return std::make_shared<SafetensorsFile>(path);
  if (extension == ".pth" || extension == ".pt" || extension == ".bin" || extension == ".ckpt") {
    return std::make_shared<TorchFile>(path);
  }
  if (extension == ".npz") return std::make_shared<NpzFile>(path);
  fail_file("{}: expected a .safetensors file, a .pth file or a folder of .safetensors files", path.string());
}

// The names of the folder's entries, sorted; hidden files (macOS leaves "._x.safetensors") do not count.
std::vector<std::string> list(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with('.')) names.push_back(name);
  }
  if (error) fail_file("{}: cannot be listed ({})", folder.string(), error.message());
  std::sort(names.begin(), names.end());
  return names;
}

[[noreturn]] void fail_no_model(const fs::path& folder, const std::vector<std::string>& names) {
  std::vector<std::string> hints;
  for (const std::string& name : names) {
    const std::string extension = fs::path(name).extension().string();
    const bool model_folder = name == "transformer" || name == "vae" || name == "text_encoder";
    if (extension == ".pth" || extension == ".pt" || (model_folder && fs::is_directory(folder / name))) {
      hints.push_back(name);
    }
  }
  fail_file("{}: is no model folder: looked for *{} and *.safetensors in it and found none{}", folder.string(),
            index_suffix, hints.empty() ? "" : fmt::format("; give the path of one of {}", fmt::join(hints, ", ")));
}

// The shard that weight_map names, which may lie in a subfolder but not outside the index's folder.
fs::path shard_path(const fs::path& index, const std::string& shard) {
  const fs::path relative(shard);
  bool inside = !shard.empty() && !relative.is_absolute();
  for (const fs::path& part : relative) inside &= part != "..";
  if (!inside) fail_file("{}: names the shard '{}', which lies outside its folder", index.string(), shard);
  return index.parent_path() / relative;
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& given) {
  std::error_code error;
  const fs::file_status status = fs::status(given, error);
  if (!fs::exists(status)) fail_file("{}: does not exist; check the path of the model", given.string());

  fs::path index;
  std::vector<std::shared_ptr<const TensorFile>> files;
  if (!fs::is_directory(status)) {
    const std::string name = given.filename().string();
    if (!name.ends_with(index_suffix) && !name.ends_with(torch_index_suffix)) {
      return from_files(given, {open_file(given)});
    }
    index = given;
  } else {
    const std::vector<std::string> names = list(given);
    std::vector<std::string> indices, torch_indices, shards;
    for (const std::string& name : names) {
      if (name.ends_with(index_suffix)) indices.push_back(name);
      if (name.ends_with(torch_index_suffix)) torch_indices.push_back(name);
      if (name.ends_with(".safetensors")) shards.push_back(name);
    }
    // Where a folder holds a model in both forms, the safetensors one counts.
    if (indices.empty() && shards.empty()) indices = torch_indices;
    if (indices.size() > 1) {
      fail_file("{}: holds {} models ({}); give the path of one of these", given.string(), indices.size(),
                fmt::join(indices, ", "));
    }
    if (indices.empty()) {
      if (shards.empty()) fail_no_model(given, names);
      for (const std::string& name : shards) files.push_back(open_file(given / name));
      return from_files(given, std::move(files));
    }
    index = given / indices.front();
  }

  const nlohmann::json json = parse_strict_json(MappedFile::open(index)->bytes(), index.string());
  const auto weight_map = json.find("weight_map");
  if (weight_map == json.end() || !weight_map->is_object() || weight_map->empty()) {
    fail_file("{}: has no 'weight_map' from tensor names to shards", index.string());
  }
  Checkpoint checkpoint;
  checkpoint.path_ = given;
  std::map<std::string, std::shared_ptr<const TensorFile>> shards;
  for (const auto& [name, value] : weight_map->items()) {
    if (!value.is_string()) fail_file("{}: 'weight_map' gives no file name for '{}'", index.string(), name);
    const std::string shard = value.get<std::string>();
    auto& file = shards[shard];
    if (!file) {
      const fs::path path = shard_path(index, shard);
      if (!fs::exists(path, error)) {
        fail_file("{}: the shard '{}' is missing; incomplete download?", index.string(), shard);
      }
      file = open_file(path);
    }
    if (!file->find(name)) {
      fail_file("{}: says that '{}' is in '{}', but it is not; the files belong to different models?", index.string(),
                name, shard);
    }
    checkpoint.add(name, file);
  }
  return checkpoint;
}

Checkpoint Checkpoint::from_files(fs::path path, std::vector<std::shared_ptr<const TensorFile>> files) {
  Checkpoint checkpoint;
  checkpoint.path_ = std::move(path);
  for (const auto& file : files) {
    for (const TensorInfo& info : file->tensors()) checkpoint.add(info.name, file);
  }
  return checkpoint;
}

void Checkpoint::add(const std::string& name, const std::shared_ptr<const TensorFile>& file) {
  const auto [it, fresh] = tensors_.emplace(name, file);
  if (!fresh) {
    fail_file("tensor '{}' is both in {} and in {}; keep one model in a folder, or give the path of one file", name,
              it->second->path().string(), file->path().string());
  }
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : tensors_) names.push_back(name);
  return names;
}

const TensorFile& Checkpoint::owner(const std::string& name) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) {
    const std::vector<std::string> known = names();
    fail_file("{}: holds no tensor '{}'{}", path_.string(), name, did_you_mean(name, known));
  }
  return *it->second;
}

const TensorInfo& Checkpoint::info(const std::string& name) const { return *owner(name).find(name); }
const fs::path& Checkpoint::file(const std::string& name) const { return owner(name).path(); }
at::Tensor Checkpoint::tensor(const std::string& name) const { return owner(name).tensor(name); }

uint64_t Checkpoint::bytes() const {
  uint64_t bytes = 0;
  for (const auto& [name, file] : tensors_) bytes += file->find(name)->bytes;
  return bytes;
}

std::map<std::string, std::string> Checkpoint::metadata() const {
  for (const auto& [name, file] : tensors_) {
    if (!file->metadata().empty()) return file->metadata();
  }
  return {};
}

}  // namespace longtake
