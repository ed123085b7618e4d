// What every verb that generates does about memory before it loads anything.
#pragma once

#include "runtime/memory_check.h"
#include "runtime/model.h"

namespace longtake {

struct ModelFiles;
struct RunRequest;

// The same for decoding alone: as many latents at once as the request says, or unless the user `asked` for them as many fewer as fit.
void pass_decoding(const ModelFiles& files, const at::Device& device, bool asked, GenerateOptions& options, RunRequest& request, std::string& note);

class MemoryGate {
 public:
  MemoryGate(const ResolvedModel& model, const ModelTarget& target, int fps, bool random_weights = false);

  // Settles how the run decodes (choose_decoding; `options` and `request` then say it), and plans it. `note` becomes what the user should
  // know. Throws (no_memory) where the run does not fit; see check_memory.
  MemoryPlan pass(GenerateOptions& options, RunRequest& request, std::string& note) const;

  // The plan alone, for a run that is not made now.
  PlanInput input(const RunRequest& request) const;

 private:
  at::Device device_;
  PlanInput model_;
};

}  // namespace longtake
