// What a verb that makes videos asks of a model's family before the model is loaded. All else goes through VideoModel (video_model.h).
#pragma once

#include <optional>
#include <string>

#include "apps/memory_gate.h"
#include "apps/run_inputs.h"
#include "runtime/model.h"
#include "runtime/options.h"
#include "runtime/video_model.h"

namespace longtake {

// Reads the run's inputs; what they decide about the options is set there. Errors: RunInputs', and usage for a context that the model
// cannot go on from.
RunInputs read_inputs(OptionSet& options, const Recipe& recipe);

// The memory of a model's runs.
class RunMemory {
 public:
  RunMemory(const ResolvedModel& model, const ModelTarget& target, int fps);

  // Settles how the run decodes by the memory that there is (MemoryGate::pass); none where the family's memory is not planned.
  std::optional<MemoryPlan> settle(GenerateOptions& options, VideoRequest& request, std::string& note) const;

 private:
  std::optional<MemoryGate> gate_;
};

// What --dry-run says of the run: windows, chunks, rows, FLOPs, memory. The model needs no files.
std::string dry_run_report(const ResolvedModel& model, GenerateOptions options, VideoRequest& request);

}  // namespace longtake
