#include "apps/memory_gate.h"

#include <ATen/Context.h>
#include <fmt/format.h>

#include "base/error.h"
#include "runtime/device.h"
#include "runtime/engine.h"
#include "runtime/machine.h"
#include "runtime/progress.h"

namespace longtake {
namespace {

constexpr double kSmallRun = 256e6;  // bytes; below, what the C library keeps does not matter and keeping it is faster

void keep_little(const at::Device& device, double peak) {
  if (device.is_cpu() && peak > kSmallRun) give_back_freed_memory();
}

// A GPU that is planned for and not there computes in fp8.
magi::QuantisedAs planned_as(const Recipe& recipe, const ModelTarget& target, const std::string& precision) {
  if (is_here(target) || precision == "bf16" || target.dtype != at::kBFloat16 || !recipe.architecture.fp8)
    return quantised_as(recipe, is_here(target) ? target : ModelTarget{}, precision);
  return magi::QuantisedAs::fp8;
}

std::string at_once(int latents) { return fmt::format("{} latent frame{} decoded at once", latents, latents == 1 ? " is" : "s are"); }

}  // namespace

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

bool is_here(const ModelTarget& target) { return target.device.is_cpu() || at::hasCUDA(); }

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

MemoryPlan MemoryGate::pass(GenerateOptions& options, RunRequest& request, bool encodes, std::string& note) const {
  PlanInput plan = input(request);
  plan.encodes = plan.encodes && encodes;
  GenerateSettings& s = request.settings;
  const std::optional<MemoryRoom> room = memory_room(options, device_);
  const DecodeChoice choice = room ? choose_decoding(options, plan, room->bytes) : DecodeChoice{s.decode_latents, s.decode_ahead};
  std::string how;
  if (s.decode_ahead && !choice.ahead) how = "frames are decoded behind each window, not beside denoising";
  if (choice.latents < s.decode_latents) how += (how.empty() ? "" : ", and ") + at_once(choice.latents);
  if (!how.empty()) note = fmt::format("{}, because {} are {}", how, format_bytes(room->bytes), room->reason);
  options.decode_latents = s.decode_latents = plan.settings.decode_latents = choice.latents;
  s.decode_ahead = plan.settings.decode_ahead = choice.ahead;
  MemoryPlan planned = plan_memory(plan);
  if (room) check_memory(options, planned, memory_outlook(options, plan, room->bytes), *room);
  keep_little(device_, planned.peak());
  return planned;
}

MagiMemoryGate::MagiMemoryGate(const ResolvedModel& model, const ModelTarget& target, const std::string& precision, bool random_weights)
    : device_(target.device), model_(plan_magi_model(model, target, planned_as(model.recipe, target, precision), random_weights)) {}

MagiPlanInput MagiMemoryGate::input(const MagiRequest& request, bool encodes) const {
  MagiPlanInput input = model_;
  plan_request(input, request, encodes);
  return input;
}

MemoryPlan MagiMemoryGate::plan(const MagiRequest& request, bool encodes) const { return plan_memory(input(request, encodes)); }

MemoryPlan MagiMemoryGate::pass(const GenerateOptions& options, MagiRequest& request, bool encodes, std::string& note) const {
  const std::optional<MemoryRoom> room = memory_room(options, device_);
  MemoryPlan planned = plan(request, encodes);
  if (room && request.run.decode_ahead && planned.peak() > room->bytes) {
    request.run.decode_ahead = false;
    planned = plan(request, encodes);
    note = fmt::format("frames are decoded behind denoising, not beside it, because {} are {}", format_bytes(room->bytes), room->reason);
  }
  if (room) {
    const MagiPlanInput asked = input(request, encodes);
    check_memory(options, planned, memory_outlook(options, asked, room->bytes), *room);
  }
  keep_little(device_, planned.peak());
  return planned;
}

}  // namespace longtake
