#include "apps/model_family.h"

#include <fmt/format.h>

#include "base/error.h"
#include "runtime/engine.h"
#include "runtime/families.h"
#include "runtime/magi_recipe.h"
#include "runtime/magi_report.h"
#include "runtime/report.h"

namespace longtake {
namespace {

std::variant<MemoryGate, MagiMemoryGate> gate_of(const ResolvedModel& model, const ModelTarget& target, const GenerateOptions& o) {
  if (is_magi(model.recipe)) return MagiMemoryGate(model, target, o.precision);
  return MemoryGate(model, target, o.fps);
}

}  // namespace

RunInputs read_inputs(OptionSet& options, const Recipe& recipe) {
  GenerateOptions o = options.values();
  const ContextRule rule = context_rule(recipe, o);
  if (is_magi(recipe)) check_magi_context(recipe, o);
  RunInputs inputs(o, rule);
  // One latent frame is a picture to MAGI-1: it would be shown again.
  const int64_t least = temporal_stride + (rule.rest == 0 ? temporal_stride : rule.rest);
  if (is_magi(recipe) && !o.video.empty() && o.context < least)
    fail_usage("this model goes on from {} frames of a video or more, and there is a context of {}", least, o.context);
  if (o.context != options.values().context)
    options.set({"conditioning.context", fmt::format("{}", o.context),
                 is_magi(recipe) ? "as long as the video allows" : "as long as --overlap and the video allow"},
                SourceLevel::flag);
  return inputs;
}

RunMemory::RunMemory(const ResolvedModel& model, const ModelTarget& target, const GenerateOptions& options) : gate_(gate_of(model, target, options)) {}

MemoryPlan RunMemory::settle(GenerateOptions& options, VideoRequest& request, bool encodes, std::string& note) const {
  if (const auto* magi = std::get_if<MagiMemoryGate>(&gate_)) return magi->pass(options, dynamic_cast<MagiRequest&>(request), encodes, note);
  return std::get<MemoryGate>(gate_).pass(options, dynamic_cast<RunRequest&>(request), encodes, note);
}

std::string RunMemory::report(const Recipe& recipe, const VideoRequest& request) const {
  if (const auto* magi = std::get_if<MagiMemoryGate>(&gate_)) {
    const auto& of_magi = dynamic_cast<const MagiRequest&>(request);
    return magi_plan_report(of_magi, recipe, magi->plan(of_magi, /*encodes=*/true));
  }
  return plan_report(std::get<MemoryGate>(gate_).input(dynamic_cast<const RunRequest&>(request)));
}

void settle_decoding(const ResolvedModel& model, const ModelTarget& target, bool asked, GenerateOptions& options, VideoRequest& request,
                     std::string& note) {
  if (auto* magi = dynamic_cast<MagiRequest*>(&request))
    pass_decoding(model, target, asked, options, *magi, note);
  else
    pass_decoding(model.require_files(), target, asked, options, dynamic_cast<RunRequest&>(request), note);
}

// The plan needs no weights: sizes come from the files' headers where there are files, else from the recipe. What the run would be told about
// memory stands behind it; texts that are kept already are not looked for.
std::string dry_run_report(const ResolvedModel& model, GenerateOptions o, VideoRequest& request) {
  const ModelTarget target = planned_target(o);
  const RunMemory memory(model, target, o);
  std::string note;
  try {
    if (is_here(target) || o.memory_budget > 0) memory.settle(o, request, /*encodes=*/true, note);
  } catch (const Error& error) {
    note = error.what();
  }
  return fmt::format("model: {} ({}), policy {}, on {}\n{}{}", model.recipe.name, model.files ? "files found" : "no files; sizes from the recipe",
                     o.policy, target.device.is_cuda() ? "a GPU" : "the CPU", memory.report(model.recipe, request),
                     note.empty() ? note : note + "\n");
}

}  // namespace longtake
