#include "apps/op_bench.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/device_timer.h"

namespace longtake {
namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double best_hot(const std::vector<OpTiming>& timings, const std::string& name) {
  double best = 0;
  for (const OpTiming& t : timings)
    if (t.name == name) best = std::max(best, t.hot_rate());
  return best;
}

}  // namespace

OpTiming time_op(const OpCase& op, const OpBenchSettings& s) {
  DeviceTimer timer(s.device);
  at::Tensor flush = at::empty({s.flush_bytes}, at::TensorOptions().dtype(at::kByte).device(s.device));
  const std::function<void()> run = op.prepare();
  for (int i = 0; i < s.warmups; ++i) run();
  std::vector<double> hot, cold;
  for (int i = 0; i < s.repeats; ++i) {
    // What runs before the timed call also hides how long the host takes to launch it.
    run();
    timer.start();
    run();
    hot.push_back(timer.stop());
    flush.fill_(i);
    timer.start();
    run();
    cold.push_back(timer.stop());
  }
  return {op.name, op.shape, op.bytes, op.flops, median(hot), median(cold)};
}

std::string to_text(const std::vector<OpTiming>& timings, const std::string& memory_ceiling,
                    const std::string& compute_ceiling) {
  const double memory = best_hot(timings, memory_ceiling), compute = best_hot(timings, compute_ceiling);
  size_t names = 10, shapes = 7;
  for (const OpTiming& t : timings)
    names = std::max(names, t.name.size() + 2), shapes = std::max(shapes, t.shape.size() + 2);
  std::string out = fmt::format("{:<{}}{:<{}}{:>11}{:>11}{:>18}{:>18}{:>9}\n", "operator", names, "shape", shapes,
                                "hot ms", "cold ms", "hot", "cold", "share");
  for (const OpTiming& t : timings) {
    const bool arithmetic = t.flops > 0;
    const double ceiling = arithmetic ? compute : memory, unit = arithmetic ? 1e-12 : 1e-9;
    const char* name = arithmetic ? "TFLOP/s" : "GB/s";
    const std::string share = ceiling > 0 ? fmt::format("{:.0f} %", 100 * t.cold_rate() / ceiling) : "-";
    out += fmt::format("{:<{}}{:<{}}{:>11.4f}{:>11.4f}{:>18}{:>18}{:>9}\n", t.name, names, t.shape, shapes,
                       1e3 * t.hot_seconds, 1e3 * t.cold_seconds, fmt::format("{:.4g} {}", t.hot_rate() * unit, name),
                       fmt::format("{:.4g} {}", t.cold_rate() * unit, name), share);
  }
  return out + fmt::format("share: of the cold rate in the best hot rate of {} (GB/s) or {} (TFLOP/s)\n",
                           memory_ceiling, compute_ceiling);
}

nlohmann::ordered_json to_json(const std::vector<OpTiming>& timings) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const OpTiming& t : timings)
    out.push_back({{"name", t.name},
                   {"shape", t.shape},
                   {"bytes", t.bytes},
                   {"flops", t.flops},
                   {"hot_seconds", t.hot_seconds},
                   {"cold_seconds", t.cold_seconds}});
  return out;
}

}  // namespace longtake
