#include "runtime/run_folder.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>

#include <charconv>

#include "base/error.h"
#include "base/pending_file.h"
#include "base/utf8.h"
#include "runtime/folder_lock.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRecord = "run.json";
constexpr const char* kFinished = "finished";
constexpr const char* kVideo = "video.mp4";

// "chunk_003_012" of kind "chunk" with two numbers; nothing for other names. Numbers are as fmt writes them: no sign, at
// least three (rows: four) digits, no more zeros than that.
struct RecordName {
  std::string kind;
  int first = 0, second = -1;
};

std::string record_name(const std::string& kind, int first, int second = -1) {
  if (second < 0) return fmt::format("{}_{:03}", kind, first);
  return kind == "state" ? fmt::format("state_{:03}_{:04}", first, second) : fmt::format("{}_{:03}_{:03}", kind, first, second);
}

std::optional<RecordName> parse_record_name(const std::string& name) {
  RecordName out;
  const size_t mark = name.find('_');
  if (mark == std::string::npos) return std::nullopt;
  out.kind = name.substr(0, mark);
  const bool pair = out.kind == "chunk" || out.kind == "state" || out.kind == "preview";
  if (!pair && out.kind != "window" && out.kind != "prefix") return std::nullopt;
  const char* end = name.data() + name.size();
  auto [at, error] = std::from_chars(name.data() + mark + 1, end, out.first);
  if (error != std::errc()) return std::nullopt;
  if (pair) {
    if (at == end || *at != '_') return std::nullopt;
    const auto [after, second_error] = std::from_chars(at + 1, end, out.second);
    if (second_error != std::errc()) return std::nullopt;
  }
  if (out.first < 0 || (pair && out.second < 0) || record_name(out.kind, out.first, out.second) != name) return std::nullopt;
  return out;
}

bool is_preview(const std::string& file) {
  if (!file.ends_with(".png")) return false;
  const auto name = parse_record_name(file.substr(0, file.size() - 4));
  return name && name->kind == "preview";
}

bool is_ours(const fs::directory_entry& entry) {
  const std::string file = entry.path().filename().string();
  if (entry.is_symlink() || !entry.is_regular_file()) return false;
  if (file == kRecord || file == kFinished || file == kVideo || file == FolderLock::kFile) return true;
  if (RecordStore::is_leftover(file) || is_preview(file)) return true;
  const auto name = parse_record_name(RecordStore::record_of(file));
  return name && name->kind != "preview";
}

void check_all_ours(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder))
    if (!is_ours(entry))
      fail_file("{} does not belong into a run folder; move it away", entry.path().string());
}

void check_folder(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) fail_file("{} does not exist; name the run folder beside the output of generate", folder.string());
  if (!fs::is_directory(folder, error)) fail_file("{} is not a folder; name the run folder beside the output of generate", folder.string());
}

void remove_file(const fs::path& path) {
  std::error_code error;
  fs::remove(path, error);
  if (error) fail_file("{} cannot be removed ({})", path.string(), error.message());
}

// run.json and what says that the run is finished go last: whatever happens in between, the folder stays a run folder.
void remove_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  const auto last = [](const fs::path& path) {
    const std::string name = path.filename().string();
    return name == FolderLock::kFile ? 3 : name == kFinished ? 2 : name == kRecord ? 1 : 0;
  };
  std::stable_sort(files.begin(), files.end(), [&](const fs::path& a, const fs::path& b) { return last(a) < last(b); });
  for (const fs::path& file : files) remove_file(file);
  remove_file(folder);
}

[[noreturn]] void refuse(const fs::path& folder, const std::string& reason) {
  fail_file("{} is damaged: {}; begin again with --overwrite-run", folder.string(), reason);
}

}  // namespace

fs::path RunFolder::beside(const fs::path& out) { return out.string() + ".run"; }

bool RunFolder::exists(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) return false;
  if (!fs::is_directory(folder, error)) return true;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string file = entry.path().filename().string();
    if (file != FolderLock::kFile && !RecordStore::is_leftover(file)) return true;
  }
  return false;
}

bool RunFolder::is_finished(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / kFinished, error);
}

void RunFolder::remove(const fs::path& folder) {
  check_folder(folder);
  check_all_ours(folder);
  const FolderLock lock(folder);
  remove_files(folder);
}

std::unique_ptr<RunFolder> RunFolder::create(const fs::path& folder, const RunRecord& record) {
  std::error_code error;
  if (!fs::create_directory(folder, error) && error)
    throw Error(ExitCode::bad_file, write_error(folder, error.value()));
  auto lock = std::make_unique<FolderLock>(folder);
  LONGTAKE_CHECK(!exists(folder), "{} is not empty", folder.string());
  try {
    write_small_file(folder / kRecord, record.to_json());
  } catch (...) {
    lock.reset();
    fs::remove_all(folder, error);  // nothing but the lock is in it
    throw;
  }
  return std::unique_ptr<RunFolder>(new RunFolder(folder, record, std::move(lock)));
}

std::unique_ptr<RunFolder> RunFolder::open(const fs::path& folder, Access access) {
  check_folder(folder);
  std::error_code error;
  if (!fs::exists(folder / kRecord, error)) fail_file("{} is no run folder: it has no run.json", folder.string());
  check_all_ours(folder);
  auto lock = access == Access::write ? std::make_unique<FolderLock>(folder) : nullptr;
  const fs::path file = folder / kRecord;
  RunRecord record = RunRecord::from_json(read_small_file(file), file.string());
  if (lock) fs::remove(folder / kFinished, error);
  if (error) fail_file("cannot remove {}: {}; let it be written to, and try again", (folder / kFinished).string(), error.message());
  return std::unique_ptr<RunFolder>(new RunFolder(folder, std::move(record), std::move(lock)));
}

RunFolder::RunFolder(fs::path folder, RunRecord record, std::unique_ptr<FolderLock> lock)
    : lock_(std::move(lock)), store_(std::move(folder)), record_(std::move(record)) {}

RunFolder::~RunFolder() = default;

fs::path RunFolder::preview(int window, int chunk) const { return path() / (record_name("preview", window, chunk) + ".png"); }

std::vector<std::pair<int, int>> RunFolder::numbers(const std::string& kind) const {
  std::vector<std::pair<int, int>> out;
  for (const std::string& record : store_.names())
    if (const auto name = parse_record_name(record); name && name->kind == kind) out.emplace_back(name->first, name->second);
  std::sort(out.begin(), out.end());  // names sort otherwise from the thousandth window on
  return out;
}

std::vector<int64_t> RunFolder::latent_shape(int64_t frames) const {
  return {layout_.channels, frames, layout_.height, layout_.width};
}

RunProgressMade RunFolder::attach(const RunLayout& layout) {
  layout_ = layout;
  const RunProgressMade made = check_order();
  check_shapes();
  if (lock_) tidy(made);
  return made;
}

// Windows and chunks come in order, so that what is there is everything up to one point.
RunProgressMade RunFolder::check_order() const {
  const auto& windows = layout_.windows;
  RunProgressMade made;
  for (const auto& [window, unused] : numbers("window")) {
    if (window != made.windows) refuse(path(), fmt::format("the marker of window {} is missing", made.windows));
    if (++made.windows > static_cast<int>(windows.size())) refuse(path(), fmt::format("the run has {} windows", windows.size()));
  }
  const auto has_prefix = [&](int w) {
    return w >= 0 && w < static_cast<int>(windows.size()) && windows[w].prefix > 0 && !windows[w].carried;
  };
  std::vector<int> chunks(windows.size() + 1, 0);  // finished ones by window
  for (const auto& [window, chunk] : numbers("chunk")) {
    if (window > made.windows || window >= static_cast<int>(windows.size()))
      refuse(path(), fmt::format("chunk {} of window {} comes before window {} is finished", chunk, window, made.windows));
    const int expected = windows[window].given + chunks[window]++;
    if (chunk != expected || chunk >= static_cast<int>(windows[window].chunks.size()))
      refuse(path(), fmt::format("window {} holds chunk {} where {} is expected", window, chunk, expected));
  }
  for (const auto& [window, unused] : numbers("prefix"))
    if (!has_prefix(window) || window > made.windows)
      refuse(path(), fmt::format("window {} has no prefix of its own yet", window));
  for (int w = 0; w <= made.windows && w < static_cast<int>(windows.size()); ++w) {
    const int all = static_cast<int>(windows[w].chunks.size()) - windows[w].given;
    if (w < made.windows && chunks[w] != all)
      refuse(path(), fmt::format("window {} is marked as finished, but has {} of {} chunks", w, chunks[w], all));
    if (has_prefix(w) && !store_.contains(record_name("prefix", w)) && (w < made.windows || chunks[w] > 0))
      refuse(path(), fmt::format("the prefix of window {} is missing", w));
  }
  made.chunks = chunks[made.windows];
  for (const auto& [window, row] : numbers("state")) {
    if (window < made.windows) continue;  // about to be removed when the program died
    if (window > made.windows || window >= static_cast<int>(windows.size()))
      refuse(path(), fmt::format("there is a state of window {} before window {} is finished", window, made.windows));
    const RunLayout::Window& layout = windows[window];
    int finished = 0;
    for (int c = layout.given; c < static_cast<int>(layout.chunks.size()); ++c) finished += layout.chunks[c].last_row <= row;
    if (row >= layout.rows || finished > made.chunks)
      refuse(path(), fmt::format("the state behind row {} needs {} finished chunks of {} rows, found {}", row, finished,
                                 layout.rows, made.chunks));
    if (has_prefix(window) && !store_.contains(record_name("prefix", window)))
      refuse(path(), fmt::format("the prefix of window {} is missing", window));
    made.state_row = row;
  }
  return made;
}

void RunFolder::check_shapes() const {
  for (const auto& [w, c] : numbers("chunk")) chunk(w, c);
  for (const auto& [w, unused] : numbers("prefix")) prefix(w, {});
  for (const auto& [w, unused] : numbers("window")) store_.check(record_name("window", w));
  for (const auto& [w, row] : numbers("state")) store_.check(record_name("state", w, row));
}

// States that are of no more use, data whose marker was never written, and temporary files.
void RunFolder::tidy(const RunProgressMade& made) {
  for (const auto& [w, row] : numbers("state"))
    if (w < made.windows || row != made.state_row) store_.erase(record_name("state", w, row));
  for (const auto& entry : fs::directory_iterator(path())) {
    const std::string file = entry.path().filename().string();
    const std::string record = RecordStore::record_of(file);
    if (RecordStore::is_leftover(file) || (!record.empty() && !store_.contains(record))) remove_file(entry.path());
  }
}

// A window that is begun again meets its own chunks. Equal ones stay; before another takes a place, it and those behind it go, from the
// last on, so that chunks stand without a gap whenever the program dies.
void RunFolder::save_chunk(int window, int chunk, const at::Tensor& latents) {
  const std::string name = record_name("chunk", window, chunk);
  if (store_.contains(name)) {
    if (at::equal(this->chunk(window, chunk), latents.cpu())) return;
    const auto all = numbers("chunk");
    for (auto at = all.rbegin(); at != all.rend(); ++at)
      if (at->first == window && at->second >= chunk) store_.erase(record_name("chunk", window, at->second));
  }
  State state;
  state.put("latents", latents);
  store_.save(name, state);
}

void RunFolder::save_prefix(int window, const at::Tensor& latents) {
  State state;
  state.put("latents", latents);
  store_.save(record_name("prefix", window), state);
}

void RunFolder::save_window(int window, const State& state) {
  store_.save(record_name("window", window), state);
  for (const auto& [w, row] : numbers("state"))
    if (w <= window) store_.erase(record_name("state", w, row));
}

void RunFolder::save_state(int window, int row, const State& state) {
  const auto before = numbers("state");
  store_.save(record_name("state", window, row), state);
  for (const auto& [w, r] : before)
    if (w != window || r != row) store_.erase(record_name("state", w, r));
}

at::Tensor RunFolder::chunk(int window, int chunk) const {
  const State state = store_.load(record_name("chunk", window, chunk));
  at::Tensor latents = state.get("latents", latent_shape(layout_.windows.at(window).chunks.at(chunk).frames), at::kFloat);
  state.check_all_read();
  return latents;
}

int RunFolder::chunks(int window) const {
  int chunks = 0;
  for (const auto& [w, c] : numbers("chunk")) chunks += w == window;
  return chunks;
}

bool RunFolder::holds_window(int window) const { return store_.contains(record_name("window", window)); }

bool RunFolder::holds_prefix(int window) const { return store_.contains(record_name("prefix", window)); }

at::Tensor RunFolder::prefix(int window, const at::Tensor& before) const {
  const RunLayout::Window& layout = layout_.windows.at(window);
  if (layout.prefix == 0) return {};
  if (layout.carried) return before.narrow(1, before.size(1) - layout_.overlap, layout.prefix).cpu();
  const State state = store_.load(record_name("prefix", window));
  at::Tensor latents = state.get("latents", latent_shape(layout.prefix), at::kFloat);
  state.check_all_read();
  return latents;
}

at::Tensor RunFolder::latents(int window, const at::Tensor& before) const {
  std::vector<at::Tensor> parts;
  if (const int apart = layout_.windows.at(window).apart; apart > 0) parts.push_back(prefix(window, before).narrow(1, 0, apart));
  for (const auto& [w, c] : numbers("chunk"))
    if (w == window) parts.push_back(chunk(w, c));
  return at::cat(parts, 1);
}

State RunFolder::window(int window) const { return store_.load(record_name("window", window)); }

std::optional<State> RunFolder::state(int window) const {
  const auto all = numbers("state");
  if (all.empty() || all.back().first != window) return std::nullopt;
  const int row = all.back().second;
  State state = store_.load(record_name("state", window, row));
  if (const int64_t found = state.integers("row", 1)[0]; found != row) state.refuse(fmt::format("'row' should be {}, found {}", row, found));
  return state;
}

void RunFolder::mark_finished() { write_small_file(path() / kFinished, "the output is complete\n"); }

void RunFolder::remove() {
  const fs::path folder = path();
  LONGTAKE_CHECK(lock_, "{} is open for reading", folder.string());
  remove_files(folder);
}

}  // namespace longtake
