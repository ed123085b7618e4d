#include "tools/train/clock.h"

#include <cmath>
#include <ctime>
#include <fstream>
#include <numbers>

#include "base/error.h"

namespace longtake::train {

Clock::Clock(double minutes, bool cpu, double spent_seconds)
    : budget_(minutes * 60), spent_(spent_seconds), start_(0), cpu_(cpu) {
  start_ = now();
}

double Clock::now() const {
  if (cpu_) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Clock::seconds() const { return spent_ + now() - start_; }
double Clock::share() const { return seconds() / budget_; }

double Clock::rate(double peak) const {
  const double at = std::min(1.0, share());
  if (at < 0.03) return peak * (0.05 + 0.95 * at / 0.03);
  return peak * (0.05 + 0.95 * 0.5 * (1 + std::cos(std::numbers::pi * (at - 0.03) / 0.97)));
}

void log_line(const std::filesystem::path& path, std::initializer_list<std::pair<const char*, double>> values) {
  std::ofstream out(path, std::ios::app);
  const char* separator = "{";
  for (const auto& [name, value] : values) {
    out << separator << '"' << name << "\": " << fmt::format("{:.6g}", value);
    separator = ", ";
  }
  out << "}\n";
  if (!out.flush()) fail_file("{} cannot be written; check the folder and the free space", path.string());
}

}  // namespace longtake::train
