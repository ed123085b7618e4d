#include "apps/model_family.h"

#include <ATen/Context.h>
#include <fmt/format.h>

#include "base/error.h"
#include "runtime/device.h"
#include "runtime/engine.h"
#include "runtime/families.h"
#include "runtime/magi_recipe.h"
#include "runtime/magi_report.h"
#include "runtime/report.h"

namespace longtake {
namespace {

// Where a run is planned for: a GPU that is not here is taken at its word.
ModelTarget planned_target(const GenerateOptions& o) {
  const bool gpu = o.device.starts_with("cuda") || o.precision == "fp8" || o.offload;
  ModelTarget target{at::kCUDA, o.dtype == "fp32" ? at::kFloat : at::kBFloat16, o.precision == "fp8", o.offload};
  try {
    target.device = open_device(gpu && o.device == "auto" ? "cuda" : o.device);
  } catch (const Error&) {
    if (!gpu) throw;
  }
  return target;
}

// The plan needs no weights: sizes come from the files' headers where there are files, else from the recipe. What the run would be told about
// memory stands behind it.
std::string skyreels_report(const ResolvedModel& model, GenerateOptions& o, RunRequest& request, const std::string& head) {
  const ModelTarget target = planned_target(o);
  const MemoryGate gate(model, target, o.fps);
  std::string note;
  try {
    if (target.device.is_cpu() || at::hasCUDA() || o.memory_budget > 0) gate.pass(o, request, note);
  } catch (const Error& error) {
    note = error.what();
  }
  return fmt::format("{}, on {}\n{}{}", head, target.device.is_cuda() ? "a GPU" : "the CPU", plan_report(gate.input(request)),
                     note.empty() ? note : note + "\n");
}

}  // namespace

RunInputs read_inputs(OptionSet& options, const Recipe& recipe) {
  GenerateOptions o = options.values();
  const ContextRule rule = context_rule(recipe, o);
  if (is_magi(recipe)) check_magi_context(recipe, o);
  RunInputs inputs(o, rule);
  if (is_magi(recipe) && !o.video.empty() && o.context < temporal_stride)
    fail_usage("this model goes on from {} frames of a video or more, and there is a context of {}", temporal_stride + rule.rest, o.context);
  if (o.context != options.values().context)
    options.set({"conditioning.context", fmt::format("{}", o.context),
                 is_magi(recipe) ? "as long as the video allows" : "as long as --overlap and the video allow"},
                SourceLevel::flag);
  return inputs;
}

RunMemory::RunMemory(const ResolvedModel& model, const ModelTarget& target, int fps) {
  if (!is_magi(model.recipe)) gate_.emplace(model, target, fps);
}

std::optional<MemoryPlan> RunMemory::settle(GenerateOptions& options, VideoRequest& request, std::string& note) const {
  if (!gate_) return std::nullopt;
  return gate_->pass(options, dynamic_cast<RunRequest&>(request), note);
}

std::string dry_run_report(const ResolvedModel& model, GenerateOptions o, VideoRequest& request) {
  const std::string head =
      fmt::format("model: {} ({}), policy {}", model.recipe.name, model.files ? "files found" : "no files; sizes from the recipe", o.policy);
  if (const auto* magi = dynamic_cast<const MagiRequest*>(&request))
    return head + "\n" + magi_plan_report(*magi, model.recipe, o.dtype == "fp32" ? 4 : 2);
  return skyreels_report(model, o, dynamic_cast<RunRequest&>(request), head);
}

}  // namespace longtake
