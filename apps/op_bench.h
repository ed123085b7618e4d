// Timing of single operators: each one hot (its data where the last run left it) and cold (caches overwritten before).
#pragma once

#include <c10/core/Device.h>
#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <string>
#include <vector>

namespace longtake {

// One operator, and what it moves or computes at least: every input read once, every output written once.
struct OpCase {
  std::string name, shape;
  double bytes = 0;  // 0 where arithmetic is what counts
  double flops = 0;  // 0 where memory is what counts
  // Makes the operator's data and returns what runs it; that gives work to the device and need not wait for it.
  std::function<std::function<void()>()> prepare;
};

struct OpTiming {
  std::string name, shape;
  double bytes = 0, flops = 0;
  double hot_seconds = 0, cold_seconds = 0;  // medians

  // Bytes or FLOPs a second, whichever the case gives (FLOPs before bytes).
  double hot_rate() const { return (flops > 0 ? flops : bytes) / hot_seconds; }
  double cold_rate() const { return (flops > 0 ? flops : bytes) / cold_seconds; }
};

struct OpBenchSettings {
  at::Device device = at::kCPU;
  int warmups = 3, repeats = 20;
  int64_t flush_bytes = int64_t{256} << 20;  // more than the device's last cache holds
};

OpTiming time_op(const OpCase& op, const OpBenchSettings& settings);

// Rates, and their shares of the best hot rate among the operators called `memory_ceiling` or `compute_ceiling`.
std::string to_text(const std::vector<OpTiming>& timings, const std::string& memory_ceiling,
                    const std::string& compute_ceiling);
nlohmann::ordered_json to_json(const std::vector<OpTiming>& timings);

}  // namespace longtake
