#include "runtime/memory_meter.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/progress.h"

namespace longtake {

MemoryMeter::MemoryMeter(const at::Device& device) : device_(device), base_(device.is_cpu() ? static_cast<double>(resident_bytes()) : 0) {}

void MemoryMeter::enter(MemoryStage stage) {
  if (stage_) peaks_[*stage_] = std::max(peaks_[*stage_], now());
  stage_ = stage;
  memory_.emplace(device_);
}

double MemoryMeter::now() const {
  const auto bytes = memory_ ? static_cast<double>(memory_->bytes()) : 0;
  return bytes == 0 ? 0 : std::max(0.0, bytes - base_);
}

double MemoryMeter::peak(MemoryStage stage) const {
  const auto found = peaks_.find(stage);
  const double before = found == peaks_.end() ? 0 : found->second;
  return stage_ == stage ? std::max(before, now()) : before;
}

double MemoryMeter::peak() const {
  double most = 0;
  for (const MemoryStage stage : kMemoryStages) most = std::max(most, peak(stage));
  return most;
}

nlohmann::ordered_json MemoryMeter::json(const MemoryPlan& plan) const {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const MemoryStage stage : kMemoryStages) {
    if (!peaks_.contains(stage) && stage_ != stage) continue;
    out[name_of(stage)] = {{"predicted_bytes", std::llround(plan.stage(stage).total())}, {"peak_bytes", std::llround(peak(stage))}};
  }
  return out;
}

}  // namespace longtake
