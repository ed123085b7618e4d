// What a waiting user sees: one line that is rewritten on a terminal, one line each 10 seconds elsewhere. Goes to stderr; any
// thread may call.
#pragma once

#include <chrono>
#include <cstdio>
#include <mutex>
#include <string>

namespace longtake {

class Progress {
 public:
  explicit Progress(bool quiet = false);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // A stage of its own line, shown at once.
  void stage(const std::string& text);

  // Work within a stage: `done` of `total` units (rows of all windows), for the estimate of what is left.
  void rows_begin(int total);
  void row_done(const std::string& detail, double reused_share);

  void note(const std::string& text);  // a line that stays

  double seconds() const;  // since construction

 private:
  using Clock = std::chrono::steady_clock;
  void show(const std::string& line, bool force);

  std::mutex mutex_;  // of the line and what it counts
  bool quiet_, terminal_, line_open_ = false;
  Clock::time_point start_, rows_start_, last_shown_;
  int rows_done_ = 0, rows_total_ = 0;
};

// Resident memory of this process now and at its highest, in bytes.
int64_t resident_bytes();
int64_t peak_resident_bytes();

std::string format_bytes(double bytes);      // "1.2 GB"
std::string format_flops(double flops);      // "3.4 TFLOP"
std::string format_duration(double seconds); // "02:41" or "1:02:41"

}  // namespace longtake
