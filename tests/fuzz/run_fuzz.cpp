// Input: one byte that says which file of a run folder holds the rest. 'r' run.json; 'o' run.json as it was written, but for so many bytes
// at a place (two bytes, then one for their number) that the rest takes, under a checksum that fits; 'm' the marker of a chunk; 'd' a chunk's data
// under the old marker; 'c' a chunk's data, 'p' a prefix's, 'w' a window's and 's' a state's under a marker that fits; 'n' a file of its
// own, named by the first line. The folder is good otherwise. Anything but a folder that gives what was saved or an Error (bad_file)
// is a bug; so is data that the marker does not cover and that is taken nevertheless.
#include "runtime/generate.h"
#include "runtime/run_folder.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <cstdlib>
#include <fstream>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace {

using namespace longtake;
namespace fs = std::filesystem;

void check(bool holds) {
  if (!holds) std::abort();
}

// Without streams, whose buffers cost more than the file.
void write(const fs::path& path, std::string_view bytes) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  check(file >= 0 && ::write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  ::close(file);
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Two windows of two chunks, the second one's first taken over; both are there but for the mark that the second is finished.
class Folder {
 public:
  Folder() {
    settings_.plan = plan_windows({.frames = 9, .window_frames = 5, .overlap_frames = 1, .chunk = 1});
    settings_.height = settings_.width = 16;
    settings_.latent_channels = 1;
    settings_.steps = 2;
    settings_.ar_step = 1;
    std::string name = (fs::exists("/dev/shm") ? "/dev/shm/longtake-fuzz-XXXXXX" : "/tmp/longtake-fuzz-XXXXXX");
    check(mkdtemp(name.data()) != nullptr);
    root_ = name;
    path_ = root_ / "x.run";
    RunRecord record;
    record.version = "1";
    for (const OptionInfo& info : option_schema()) record.options[info.key] = option_text(GenerateOptions(), info);
    record.options["prompt"] = "x";
    record.options["out"] = "out.mp4";
    record.options["seed"] = "5";
    record.inputs["conditioning.image"] = "3 bytes, 01020304";
    const auto folder = RunFolder::create(path_, record);
    folder->attach(run_layout(settings_));
    const auto latents = [](int value, int64_t frames) { return at::full({1, frames, 2, 2}, value, at::kFloat); };
    for (int c = 0; c < 2; ++c) folder->save_chunk(0, c, latents(c, 1));
    State state;
    state.put_integers("row", {0});
    folder->save_window(0, state);
    folder->save_prefix(1, latents(7, 1));
    folder->save_chunk(1, 1, latents(8, 1));
    folder->save_state(1, 0, state);
    for (const auto& entry : fs::directory_iterator(path_)) files_[entry.path().filename()] = read(entry.path());
    opened_ = RunFolder::open(path_, RunFolder::Access::read);
  }
  ~Folder() { fs::remove_all(root_); }

  const fs::path& path() const { return path_; }

  static void compare(const RunRecord& record) {
    check(RunRecord::from_json(record.to_json(), "again").to_json() == record.to_json());
    try {
      OptionSet options;
      apply_record(options, record, "run.json");
      check_same_run(record, record, Recipe{}, options, "run.json");
    } catch (const Error& error) {
      check(error.code() != ExitCode::internal);
    }
  }

  // Compared with the run, and everything in it read.
  void use(RunFolder& folder) const {
    const RunProgressMade made = folder.attach(run_layout(settings_));
    at::Tensor before;
    for (int w = 0; w < made.windows; ++w) before = folder.latents(w, before);
    check(made.windows <= 2 && before.sizes() == at::IntArrayRef({1, 2, 2, 2}));
    folder.window(0);
    folder.state(1);
  }

  // Opening reads run.json and the names alone: where neither is new, the folder that is open already will do.
  void use_with_new(const std::string& name) const {
    if (files_.contains(name) && name != "run.json") return use(*opened_);
    const auto folder = RunFolder::open(path_, RunFolder::Access::read);
    if (name == "run.json") compare(folder->record());
    use(*folder);
  }

  // With the checksum of its values, where it is an object.
  static std::string sealed(const std::string& record) {
    auto json = nlohmann::ordered_json::parse(record, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return record;
    json.erase("crc32");
    const std::string text = json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    json["crc32"] = crc32_z(0, reinterpret_cast<const Bytef*>(text.data()), text.size());
    return json.dump();
  }

  // run.json, but for the bytes that `edit` names and replaces. Unlike a seed it has every option that there is.
  std::string edited_record(std::string_view edit) const {
    if (edit.size() < 3) return files_.at("run.json");
    const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<uint8_t>(edit[i])); };
    std::string record = files_.at("run.json");
    const size_t place = (byte(0) << 8 | byte(1)) % record.size();
    return sealed(record.replace(place, byte(2), edit.substr(3)));
  }

  // With one file replaced; afterwards the folder is as it was.
  void use_with(const std::string& name, std::string_view bytes, bool new_marker = false) const {
    const fs::path file = path_ / name, marker = fs::path(file).replace_extension(".done");
    const auto old = files_.find(name);
    write(file, bytes);
    if (new_marker) {
      const auto crc = crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
      write(marker, fmt::format("{{\"bytes\":{},\"crc32\":{}}}\n", bytes.size(), crc));
    }
    bool taken = false;
    try {
      use_with_new(name);
      taken = true;
    } catch (const Error& error) {
      check(error.code() == ExitCode::bad_file);
    }
    if (old != files_.end())
      write(file, old->second);
    else
      fs::remove(file);
    if (new_marker) write(marker, files_.at(marker.filename()));
    if (file.extension() == ".safetensors" && !new_marker && old != files_.end()) check(!taken || bytes == old->second);
  }

 private:
  GenerateSettings settings_;
  fs::path root_, path_;
  std::map<std::string, std::string> files_;  // as they are between two inputs
  std::unique_ptr<RunFolder> opened_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder folder;
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'r': folder.use_with("run.json", rest); break;
    case 'o': folder.use_with("run.json", folder.edited_record(rest)); break;
    case 'm': folder.use_with("chunk_000_001.done", rest); break;
    case 'd': folder.use_with("chunk_000_001.safetensors", rest); break;
    case 'c': folder.use_with("chunk_000_001.safetensors", rest, true); break;
    case 'p': folder.use_with("prefix_001.safetensors", rest, true); break;
    case 'w': folder.use_with("window_000.safetensors", rest, true); break;
    case 's': folder.use_with("state_001_0000.safetensors", rest, true); break;
    case 'n': {
      const std::string name(rest.substr(0, rest.find('\n')));
      if (name.empty() || name.size() > 200 || name == "." || name == ".." || name.find('/') != std::string::npos || name.find('\0') != std::string::npos) break;
      folder.use_with(name, rest.substr(std::min(rest.size(), name.size() + 1)));
      break;
    }
    default: break;
  }
  return 0;
}
