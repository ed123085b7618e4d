#include "apps/memory_gate.h"

#include <fmt/format.h>

#include "runtime/engine.h"
#include "runtime/machine.h"
#include "runtime/progress.h"

namespace longtake {
namespace {

constexpr double kSmallRun = 256e6;  // bytes; below, what the C library keeps does not matter and keeping it is faster

}  // namespace

MemoryGate::MemoryGate(const ResolvedModel& model, const ModelTarget& target, int fps, bool random_weights)
    : device_(target.device), model_(plan_model(model, target, fps, random_weights)) {}

PlanInput MemoryGate::input(const RunRequest& request) const {
  PlanInput input = model_;
  plan_request(input, request);
  return input;
}

MemoryPlan MemoryGate::pass(GenerateOptions& options, RunRequest& request, std::string& note) const {
  PlanInput plan = input(request);
  GenerateSettings& s = request.settings;
  const std::optional<MemoryRoom> room = memory_room(options, device_);
  const DecodeChoice choice = room ? choose_decoding(options, plan, room->bytes) : DecodeChoice{s.decode_latents, s.decode_ahead};
  std::string how;
  if (s.decode_ahead && !choice.ahead) how = "frames are decoded behind each window, not beside denoising";
  if (choice.latents < s.decode_latents)
    how += fmt::format("{}{} latent frame{} decoded at once", how.empty() ? "" : ", and ", choice.latents, choice.latents == 1 ? " is" : "s are");
  if (!how.empty()) note = fmt::format("{}, because {} are {}", how, format_bytes(room->bytes), room->reason);
  options.decode_latents = s.decode_latents = plan.settings.decode_latents = choice.latents;
  s.decode_ahead = plan.settings.decode_ahead = choice.ahead;
  if (room) check_memory(options, plan, *room);
  MemoryPlan planned = plan_memory(plan);
  if (device_.is_cpu() && planned.peak() > kSmallRun) give_back_freed_memory();
  return planned;
}

}  // namespace longtake
