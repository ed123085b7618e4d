// Watches a run row by row for `bench generate`: the device stands still at the end of every row, and only there.
#pragma once

#include <chrono>
#include <optional>

#include "apps/bench_report.h"
#include "runtime/denoise_hooks.h"
#include "runtime/machine.h"

namespace longtake {

// Ends a run that has been watched long enough.
struct EnoughRows {};

class RowClock {
 public:
  // Adds to `result` and throws EnoughRows after `limit` rows; 0: never.
  RowClock(BenchResult& result, const at::Device& device, int limit);

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

  BenchResult& result_;
  const at::Device device_;
  const int limit_;
  std::optional<PeakMemory> memory_;
  bool decoding_ = false;
  int window_ = 0, chunks_ = 0;
  Clock::time_point begin_;
};

}  // namespace longtake
