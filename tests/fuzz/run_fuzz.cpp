// Input: one byte that says which file of a run folder holds the rest. 'r' run.json; 'm' the marker of a chunk; 'd' a chunk's data
// under the old marker; 'c' a chunk's data, 'p' a prefix's, 'w' a window's and 's' a state's under a marker that fits; 'n' a file of its
// own, named by the first line. The folder is good otherwise. Anything but a folder that gives what was saved or an Error (bad_file)
// is a bug; so is data that the marker does not cover and that is taken nevertheless.
#include "runtime/generate.h"
#include "runtime/run_folder.h"

#include <stdlib.h>
#include <zlib.h>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <cstdlib>
#include <fstream>

#include "base/error.h"

namespace {

using namespace longtake;
namespace fs = std::filesystem;

void check(bool holds) {
  if (!holds) std::abort();
}

void write(const fs::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  check(file.good());
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Two windows of two chunks; the first is finished, of the second one chunk.
class Folder {
 public:
  Folder() {
    settings_.plan = plan_windows({.frames = 13, .window_frames = 9, .overlap_frames = 5, .chunk = 1});
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
    for (int c = 0; c < 3; ++c) folder->save_chunk(0, c, latents(c, 1));
    State state;
    state.put_integers("row", {0});
    folder->save_window(0, state);
    folder->save_prefix(1, latents(7, 2));
    folder->save_chunk(1, 2, latents(8, 1));
    folder->save_state(1, 0, state);
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

  // Opened, compared with the run, and everything in it read.
  void use(bool new_record) const {
    const auto folder = RunFolder::open(path_, RunFolder::Access::read);
    if (new_record) compare(folder->record());
    const RunProgressMade made = folder->attach(run_layout(settings_));
    at::Tensor before;
    for (int w = 0; w < made.windows; ++w) before = folder->latents(w, before);
    check(made.windows <= 2 && before.sizes() == at::IntArrayRef({1, 3, 2, 2}));
    folder->window(0);
    folder->state(1);
  }

  // With one file replaced; afterwards the folder is as it was.
  void use_with(const std::string& name, std::string_view bytes, bool new_marker = false) const {
    const fs::path file = path_ / name, marker = fs::path(file).replace_extension(".done");
    const bool was_there = fs::exists(file);
    const std::string old_bytes = was_there ? read(file) : "", old_marker = new_marker ? read(marker) : "";
    write(file, bytes);
    if (new_marker) {
      const auto crc = crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
      write(marker, fmt::format("{{\"bytes\":{},\"crc32\":{}}}\n", bytes.size(), crc));
    }
    bool taken = false;
    try {
      use(name == "run.json");
      taken = true;
    } catch (const Error& error) {
      check(error.code() == ExitCode::bad_file);
    }
    if (was_there)
      write(file, old_bytes);
    else
      fs::remove(file);
    if (new_marker) write(marker, old_marker);
    if (file.extension() == ".safetensors" && !new_marker && was_there) check(!taken || bytes == old_bytes);
  }

 private:
  GenerateSettings settings_;
  fs::path root_, path_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder folder;
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'r': folder.use_with("run.json", rest); break;
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
