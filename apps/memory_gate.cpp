#include "apps/memory_gate.h"

#include <fmt/format.h>

#include "runtime/engine.h"
#include "runtime/machine.h"
#include "runtime/progress.h"

namespace longtake {
namespace {

constexpr double kSmallRun = 256e6;  // bytes; below, what the C library keeps does not matter and keeping it is faster

void keep_little(const at::Device& device, double peak) {
  if (device.is_cpu() && peak > kSmallRun) give_back_freed_memory();
}

std::string at_once(int latents) { return fmt::format("{} latent frame{} decoded at once", latents, latents == 1 ? " is" : "s are"); }

}  // namespace

void pass_decoding(const ModelFiles& files, const at::Device& device, bool asked, GenerateOptions& options, RunRequest& request, std::string& note) {
  PlanInput input = plan_decoder(files, device);
  input.settings = request.settings;
  if (const std::optional<MemoryRoom> room = memory_room(options, device)) {
    const int latents = choose_decode_latents(input, *room, !asked);
    if (latents < input.settings.decode_latents) note = fmt::format("{}, because {} are {}", at_once(latents), format_bytes(room->bytes), room->reason);
    options.decode_latents = request.settings.decode_latents = latents;
  }
  // Who decodes fewer latents at once has large frames, and little memory.
  input.settings.decode_latents = std::max(input.settings.decode_latents, kUsualDecodeLatents);
  keep_little(device, plan_memory(input).peak());
}

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
  if (choice.latents < s.decode_latents) how += (how.empty() ? "" : ", and ") + at_once(choice.latents);
  if (!how.empty()) note = fmt::format("{}, because {} are {}", how, format_bytes(room->bytes), room->reason);
  options.decode_latents = s.decode_latents = plan.settings.decode_latents = choice.latents;
  s.decode_ahead = plan.settings.decode_ahead = choice.ahead;
  if (room) check_memory(options, plan, *room);
  MemoryPlan planned = plan_memory(plan);
  keep_little(device_, planned.peak());
  return planned;
}

}  // namespace longtake
