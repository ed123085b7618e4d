#include "runtime/progress.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

namespace longtake {

Progress::Progress(bool quiet)
    : quiet_(quiet), terminal_(isatty(STDERR_FILENO)), start_(Clock::now()), rows_start_(start_), last_shown_(start_) {}

Progress::~Progress() {
  if (line_open_) fmt::print(stderr, "\n");
}

double Progress::seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

void Progress::show(const std::string& line, bool force) {
  if (quiet_) return;
  const auto now = Clock::now();
  const double since = std::chrono::duration<double>(now - last_shown_).count();
  if (!force && since < (terminal_ ? 0.1 : 10.0)) return;
  last_shown_ = now;
  if (terminal_) {
    fmt::print(stderr, "\r\x1b[K{}", line);
    line_open_ = true;
  } else {
    fmt::print(stderr, "{}\n", line);
  }
  std::fflush(stderr);
}

void Progress::note(const std::string& text) {
  if (quiet_) return;
  const std::lock_guard lock(mutex_);
  if (line_open_) fmt::print(stderr, "\r\x1b[K");
  line_open_ = false;
  fmt::print(stderr, "{}\n", text);
}

void Progress::stage(const std::string& text) { note(fmt::format("[{:6.1f} s] {}", seconds(), text)); }

void Progress::rows_begin(int total) {
  const std::lock_guard lock(mutex_);
  rows_total_ = total;
  rows_done_ = 0;
  rows_start_ = Clock::now();
}

void Progress::row_done(const std::string& detail, double reused_share) {
  const std::lock_guard lock(mutex_);
  ++rows_done_;
  const double elapsed = std::chrono::duration<double>(Clock::now() - rows_start_).count();
  const double per_row = elapsed / rows_done_;
  show(fmt::format("[{:6.1f} s] {}  row {}/{}  reused {:.0f} %  {:.2f} s/row  ETA {}  mem {}", seconds(), detail, rows_done_,
                   rows_total_, 100 * reused_share, per_row, format_duration(per_row * (rows_total_ - rows_done_)),
                   format_bytes(static_cast<double>(resident_bytes()))),
       rows_done_ == 1);
}

int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

int64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

std::string format_bytes(double bytes) {
  if (bytes >= 1e9) return fmt::format("{:.1f} GB", bytes / 1e9);
  if (bytes >= 1e6) return fmt::format("{:.0f} MB", bytes / 1e6);
  return fmt::format("{:.0f} kB", bytes / 1e3);
}

std::string format_flops(double flops) {
  if (flops >= 1e15) return fmt::format("{:.1f} PFLOP", flops / 1e15);
  if (flops >= 1e12) return fmt::format("{:.2f} TFLOP", flops / 1e12);
  return fmt::format("{:.1f} GFLOP", flops / 1e9);
}

std::string format_duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{:02}:{:02}", s / 60, s % 60);
}

}  // namespace longtake
