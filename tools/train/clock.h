// A schedule that follows the clock: learning rate by the share of the time that is used up, and a log of JSON lines.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

namespace longtake::train {

// Counts process CPU time where `cpu` is set: on a machine that others use, a budget then means the same work.
class Clock {
 public:
  Clock(double minutes, bool cpu, double spent_seconds = 0);
  double seconds() const;          // used, earlier runs included
  double share() const;            // 0 at the start, 1 and more when the time is up
  // Linear rise over the first 3 %, then a cosine down to a twentieth of `peak`.
  double rate(double peak) const;

 private:
  double now() const;
  double budget_, spent_, start_;
  bool cpu_;
};

// Appends {"step": ..., "seconds": ..., "name": value, ...} to a file.
void log_line(const std::filesystem::path& path, std::initializer_list<std::pair<const char*, double>> values);

}  // namespace longtake::train
