// What `bench generate` measured, as a table and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/row_profile.h"
#include "runtime/memory_plan.h"
#include "runtime/run_stats.h"

namespace longtake {

// One row of the schedule, from the end of the one before it, when the device stood still.
struct BenchRow {
  int window = 0, row = 0;
  int chunks = 0;  // that the solver moved
  WorkCount work;
  double seconds = 0;

  double flops_per_second() const { return seconds > 0 ? work.flops / seconds : 0; }
};

struct BenchResult {
  std::string version, model, weights, device, dtype, policy;
  std::string precision;  // of the transformer's large products: the dtype, or fp8
  std::string vae_dtype;
  int frames = 0, height = 0, width = 0, steps = 0, branches = 0;
  int ar_step = 0;    // of SkyReels-V2
  int in_flight = 0;  // chunks of a full row of MAGI-1, 0 in SkyReels-V2
  int rows_planned = 0;
  double setup_seconds = 0;   // weights and texts, on the device
  double warmup_seconds = 0;  // a first row that does not count
  int64_t weight_bytes = 0;   // of the transformer
  std::vector<BenchRow> rows;
  RunStats stats;                                                              // up to the last row
  std::optional<double> decode_seconds;                                        // none where the run was stopped early
  int64_t denoise_peak_bytes = 0, decode_peak_bytes = 0, host_peak_bytes = 0;  // 0 where the system does not tell
  int64_t denoise_predicted_bytes = 0, decode_predicted_bytes = 0;             // memory_plan.h, in the same terms
  int64_t base_bytes = 0;  // of both: what the process held before it loaded anything; 0 on a GPU
  std::string memory_meaning;
  std::optional<RowProfile> profile;  // of the row that was asked for
  Ceilings ceilings;                  // where there is a profile

  // What the run is to take, from what the process holds now: on the CPU it is measured as a whole.
  void predict(const MemoryPlan& plan, bool on_cpu);
  bool stopped() const { return static_cast<int>(rows.size()) < rows_planned; }
  double denoise_seconds() const;
  WorkCount work() const;
};

// Median seconds and speed of the rows that move so many chunks.
struct BenchGroup {
  int chunks = 0, rows = 0;
  double median_seconds = 0, flops_per_second = 0;  // the latter over the group's sums
};
std::vector<BenchGroup> by_chunks(const std::vector<BenchRow>& rows);

std::string to_text(const BenchResult& result);
nlohmann::ordered_json to_json(const BenchResult& result);

}  // namespace longtake
