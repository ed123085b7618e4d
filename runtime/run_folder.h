// The folder beside an output in which a run keeps all that it has done, so that nothing is lost (docs/runs.md).
//
// "out.mp4.run/" holds run.json (run_record.h), a lock, and records (record_store.h):
//   chunk_WWW_CCC    "latents" [C, F, h, w] float32: chunk C of window W, clean (MAGI-1: given frames that it begins with included)
//   window_WWW       window W is finished: statistics, and state of policy and noise for the next one
//   prefix_WWW       "latents" [C, P, h, w] float32: what window W took over (re-encoded history; absent for carried history),
//                    or for the first window: what was given
//   state_WWW_RRRR   everything needed to go on behind row R of window W; only the newest is kept
// beside files that can be made again: video.mp4 (what is decoded so far) and preview_*.png. A file "finished" says that
// the output is complete and the folder may go.
//
// Numbers count from 0. Errors: bad_file for a folder that is damaged, locked, not ours, or does not fit the settings,
// and for what cannot be written; each names the file.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/record_store.h"
#include "runtime/run_layout.h"
#include "runtime/run_record.h"

namespace longtake {

// What a folder holds of the run.
struct RunProgressMade {
  int windows = 0;               // finished ones
  int chunks = 0;                // finished ones of the window behind them
  std::optional<int> state_row;  // where that window can be taken up; none: at its start
};

class FolderLock;

class RunFolder {
 public:
  enum class Access { write, read };  // write takes the lock

  static std::filesystem::path beside(const std::filesystem::path& out);
  // Whether there is a folder with anything in it that a run would have to keep.
  static bool exists(const std::filesystem::path& folder);
  // Removes a run folder; refuses folders with files that are not ours, and one that another program holds.
  static void remove(const std::filesystem::path& folder);

  // Makes the folder and writes run.json; nothing may be there but leftovers of a run that died before its own.
  static std::unique_ptr<RunFolder> create(const std::filesystem::path& folder, const RunRecord& record);
  // Reads run.json and which records there are. Whoever writes goes on with the run: it is no longer marked as finished.
  static std::unique_ptr<RunFolder> open(const std::filesystem::path& folder, Access access);
  // Whether its output is complete: there is nothing to go on with.
  static bool is_finished(const std::filesystem::path& folder);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return store_.folder(); }
  const RunRecord& record() const { return record_; }
  std::filesystem::path growing_video() const { return path() / "video.mp4"; }
  std::filesystem::path preview(int window, int chunk) const;

  // Binds the folder to a run and checks every record against it, data included. Comes before everything below.
  RunProgressMade attach(const RunLayout& layout);

  void save_chunk(int window, int chunk, const at::Tensor& latents);
  void save_prefix(int window, const at::Tensor& latents);
  void save_window(int window, const State& state);
  void save_state(int window, int row, const State& state);

  at::Tensor chunk(int window, int chunk) const;                // [C, F, h, w]
  int chunks(int window) const;                                 // finished ones
  bool holds_window(int window) const;                          // whether it is finished
  bool holds_prefix(int window) const;
  // [C, P, h, w], where it is carried from `before`, the latents of the window before; undefined where the window has none.
  at::Tensor prefix(int window, const at::Tensor& before) const;
  // What there is of a window, its prefix and its chunks [C, n, h, w]; `before` as above.
  at::Tensor latents(int window, const at::Tensor& before) const;
  State window(int window) const;
  std::optional<State> state(int window) const;

  // Whether a resume would find anything.
  bool worth_keeping() const { return !store_.names().empty(); }
  void mark_finished();
  void remove();

 private:
  RunFolder(std::filesystem::path folder, RunRecord record, std::unique_ptr<FolderLock> lock);
  RunProgressMade check_order() const;
  void check_shapes() const;
  void tidy(const RunProgressMade& made);
  std::vector<int64_t> latent_shape(int64_t frames) const;
  std::vector<std::pair<int, int>> numbers(const std::string& kind) const;  // of all records of this kind

  std::unique_ptr<FolderLock> lock_;  // none: read only
  RecordStore store_;
  RunRecord record_;
  RunLayout layout_;
};

}  // namespace longtake
