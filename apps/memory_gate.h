// What every verb that generates does about memory before it loads anything.
#pragma once

#include "runtime/magi_memory.h"
#include "runtime/memory_check.h"
#include "runtime/model.h"

namespace longtake {

struct ModelFiles;
struct RunRequest;

// Where a run is planned for: a GPU that is not here is taken at its word.
ModelTarget planned_target(const GenerateOptions& options);
// Whether there is free memory that such a plan can be compared with.
bool is_here(const ModelTarget& target);

class MemoryGate {
 public:
  MemoryGate(const ResolvedModel& model, const ModelTarget& target, int fps, bool random_weights = false);

  // Settles how the run decodes (choose_decoding; `options` and `request` then say it), and plans it. `encodes`: the text encoder is needed.
  // `note` becomes what the user should know. Throws (no_memory) where the run does not fit; see check_memory.
  MemoryPlan pass(GenerateOptions& options, RunRequest& request, bool encodes, std::string& note) const;

  // The plan alone, for a run that is not made now.
  PlanInput input(const RunRequest& request) const;

 private:
  at::Device device_;
  PlanInput model_;
};

// What MemoryGate is, for MAGI-1.
class MagiMemoryGate {
 public:
  // `target` may be a planned one.
  MagiMemoryGate(const ResolvedModel& model, const ModelTarget& target, const std::string& precision, bool random_weights = false);

  // As above; what stays open with MAGI-1's own VAE is whether the run decodes beside denoising.
  MemoryPlan pass(GenerateOptions& options, MagiRequest& request, bool encodes, std::string& note) const;
  // The plan alone.
  MemoryPlan plan(const MagiRequest& request, bool encodes) const;

 private:
  MagiPlanInput input(const MagiRequest& request, bool encodes) const;

  at::Device device_;
  MagiPlanInput model_;
};

// For decoding alone: as many latents at once as the request says, or unless the user `asked` for them as many fewer as fit.
void pass_decoding(const ModelFiles& files, const ModelTarget& target, bool asked, GenerateOptions& options, RunRequest& request, std::string& note);
// For MAGI-1; with its own VAE there is nothing to settle.
void pass_decoding(const ResolvedModel& model, const ModelTarget& target, bool asked, GenerateOptions& options, MagiRequest& request, std::string& note);

}  // namespace longtake
