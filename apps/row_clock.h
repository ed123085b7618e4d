// Watches a run row by row for `bench generate`: the device stands still at the end of every row, and only there.
#pragma once

#include <chrono>
#include <optional>

#include "apps/bench_report.h"
#include "apps/row_profile.h"
#include "runtime/denoise_hooks.h"
#include "runtime/machine.h"

namespace longtake {

// Ends a run that has been watched long enough.
struct EnoughRows {};

// Rows of the whole run, counted from 1.
struct WatchedRows {
  int limit = 0;     // the last one; 0: all run
  int profiled = 0;  // the one that is profiled; 0: none
  // Errors: usage where a run of `planned` rows never comes to the profiled one.
  void check(int planned) const;
};

class RowClock {
 public:
  // Adds to `result` and throws EnoughRows after the last row, where that is not the run's.
  RowClock(BenchResult& result, const at::Device& device, const WatchedRows& rows);

  // What the run says: its rows begin; a decision; a row has ended; decoding begins.
  void begin_window(int window);
  void decided(const DecisionRecord& record);
  void row_ended(const RowEnd& end);
  void begin_decoding();

  // Of the last window, after the run.
  void decode_ended();

 private:
  using Clock = std::chrono::steady_clock;
  void begin_row();
  bool is_profiled() const { return static_cast<int>(result_.rows.size()) + 1 == rows_.profiled; }

  BenchResult& result_;
  const at::Device device_;
  const WatchedRows rows_;
  RowProfiler profiler_;
  std::optional<PeakMemory> memory_;
  bool decoding_ = false;
  int window_ = 0, chunks_ = 0;
  Clock::time_point begin_;
};

}  // namespace longtake
