// The memory that a run takes, stage by stage, in the terms of its plan: what there is of it above what there was before.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <map>
#include <optional>

#include "runtime/machine.h"
#include "runtime/memory_plan.h"

namespace longtake {

class MemoryMeter {
 public:
  // On the CPU what the process holds now does not count.
  explicit MemoryMeter(const at::Device& device);

  // What follows belongs to this stage; a stage may be entered again.
  void enter(MemoryStage stage);

  // Of the stages entered so far; 0 where the system does not tell.
  double peak(MemoryStage stage) const;
  double peak() const;
  double base() const { return base_; }  // on the CPU: what did not count

  // {"denoising": {"predicted_bytes": ..., "peak_bytes": ...}, ...} of the stages entered.
  nlohmann::ordered_json json(const MemoryPlan& plan) const;

 private:
  double now() const;

  at::Device device_;
  double base_;
  std::map<MemoryStage, double> peaks_;
  std::optional<MemoryStage> stage_;
  std::optional<PeakMemory> memory_;
};

}  // namespace longtake
