// What the device did in one row, from LibTorch's profiler (kineto): time by operation and by kernel, gaps, and how often the host
// launched something or waited.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace longtake {

struct ProfiledOp {
  std::string name;
  int64_t calls = 0, kernels = 0;
  double seconds = 0;  // of the device, kernels and copies; on the CPU of the host
  double flops = 0, bytes = 0;
};

struct ProfiledKernel {
  std::string name;
  int64_t count = 0;
  double seconds = 0;
};

struct RowProfile {
  int window = 0, row = 0;
  double span_seconds = 0;  // from the first kernel's beginning to the last one's end
  double busy_seconds = 0;  // of it, with at least one kernel or copy running; the rest are gaps
  double longest_gap_seconds = 0;
  int64_t kernels = 0, copies = 0;  // copies and fills
  int64_t host_waits = 0;           // calls that wait for the device
  int64_t allocations = 0;          // of device memory from the driver: none where the caching allocator had room
  std::vector<ProfiledOp> ops;          // by OpScope, slowest first; what belongs to none is "other"
  std::vector<ProfiledKernel> launched;  // slowest first
};

// Rates of the best of a few large copies and products, for shares.
struct Ceilings {
  double bytes_per_second = 0, flops_per_second = 0;
  double fp8_flops_per_second = 0;  // 0 where the device has no such products
};
Ceilings measure_ceilings(const at::Device& device, at::ScalarType dtype);

// Records what this thread does from begin() to end(). The caller waits for the device before both. One at a time in a process.
class RowProfiler {
 public:
  explicit RowProfiler(const at::Device& device) : device_(device) {}
  void begin();
  RowProfile end(int window, int row);

 private:
  at::Device device_;
};

std::string to_text(const RowProfile& profile, const Ceilings& ceilings);
nlohmann::ordered_json to_json(const RowProfile& profile, const Ceilings& ceilings);

}  // namespace longtake
