#include "apps/memory_gate.h"

#include <ATen/Context.h>
#include <fmt/format.h>

#include "base/error.h"
#include "runtime/device.h"
#include "runtime/engine.h"
#include "runtime/machine.h"
#include "runtime/magi_recipe.h"
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

// What the user should know of a choice; `behind`: what frames are decoded behind.
std::string note_of(const DecodeChoice& asked, const DecodeChoice& choice, const std::string& behind, const std::optional<MemoryRoom>& room) {
  std::string how;
  if (asked.ahead && !choice.ahead) how = fmt::format("frames are decoded behind {}, not beside denoising", behind);
  if (choice.latents < asked.latents) how += (how.empty() ? "" : ", and ") + at_once(choice.latents);
  return how.empty() ? how : fmt::format("{}, because {} are {}", how, format_bytes(room->bytes), room->reason);
}

// The latents at once of a run that only decodes.
int settle_latents(const GenerateOptions& options, const at::Device& device, int latents, bool asked, const std::function<double(int)>& peak,
                   std::string& note) {
  const std::optional<MemoryRoom> room = memory_room(options, device);
  const int settled = room ? choose_decode_latents(latents, !asked, peak, *room, device) : latents;
  if (settled < latents) note = note_of({latents, false}, {settled, false}, "", room);
  return settled;
}

}  // namespace

FrameTarget frame_target(const GenerateOptions& options, bool grows) {
  if (std::filesystem::path(options.out).extension() == ".safetensors") return FrameTarget::tensors;
  return grows ? FrameTarget::growing_video : FrameTarget::video;
}

ModelTarget planned_target(const GenerateOptions& o) {
  const bool gpu = o.device.starts_with("cuda") || o.precision == "fp8" || o.offload;
  ModelTarget target{at::kCUDA, *dtype_named(o.dtype), o.precision == "fp8", o.offload, dtype_named(o.vae_dtype)};
  try {
    target.device = open_device(gpu && o.device == "auto" ? "cuda" : o.device);
  } catch (const Error&) {
    if (!gpu) throw;
  }
  return target;
}

bool is_here(const ModelTarget& target) { return target.device.is_cpu() || at::hasCUDA(); }

MemoryGate::MemoryGate(const ResolvedModel& model, const ModelTarget& target, int fps, bool random_weights, FrameTarget frames_go)
    : device_(target.device), model_(plan_model(model, target, fps, random_weights)) {
  model_.frames_go = frames_go;
}

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
  const DecodeChoice asked{s.decode_latents, s.decode_ahead}, choice = room ? choose_decoding(options, plan, room->bytes) : asked;
  if (const std::string how = note_of(asked, choice, "each window", room); !how.empty()) note = how;
  options.decode_latents = s.decode_latents = plan.settings.decode_latents = choice.latents;
  s.decode_ahead = plan.settings.decode_ahead = choice.ahead;
  MemoryPlan planned = plan_memory(plan);
  if (room) check_memory(options, planned, memory_outlook(options, plan, room->bytes), *room);
  keep_little(device_, planned.peak());
  return planned;
}

MagiMemoryGate::MagiMemoryGate(const ResolvedModel& model, const ModelTarget& target, const std::string& precision, bool random_weights,
                               FrameTarget frames_go)
    : device_(target.device), model_(plan_magi_model(model, target, planned_as(model.recipe, target, precision), random_weights)) {
  model_.frames_go = frames_go;
}

MagiPlanInput MagiMemoryGate::input(const MagiRequest& request, bool encodes) const {
  MagiPlanInput input = model_;
  plan_request(input, request, encodes);
  return input;
}

MemoryPlan MagiMemoryGate::plan(const MagiRequest& request, bool encodes) const { return plan_memory(input(request, encodes)); }

MemoryPlan MagiMemoryGate::pass(GenerateOptions& options, MagiRequest& request, bool encodes, std::string& note) const {
  MagiPlanInput plan = input(request, encodes);
  const std::optional<MemoryRoom> room = memory_room(options, device_);
  const DecodeChoice asked{request.decode_latents, request.run.decode_ahead}, choice = room ? choose_decoding(options, plan, room->bytes) : asked;
  if (const std::string how = note_of(asked, choice, "the last row", room); !how.empty()) note = how;
  request.decode_latents = plan.request.decode_latents = choice.latents;
  request.run.decode_ahead = plan.request.run.decode_ahead = choice.ahead;
  if (has_wan_vae(model_.recipe)) options.decode_latents = choice.latents;
  const MemoryPlan planned = plan_memory(plan);
  if (room) check_memory(options, planned, memory_outlook(options, plan, room->bytes), *room);
  keep_little(device_, planned.peak());
  return planned;
}

void pass_decoding(const ModelFiles& files, const ModelTarget& target, bool asked, GenerateOptions& options, RunRequest& request, std::string& note) {
  PlanInput input = plan_decoder(files, target);
  input.frames_go = frame_target(options, /*grows=*/false);
  input.settings = request.settings;
  input.shown_frames = request.shown_frames;
  const auto peak = [&](int latents) {
    input.settings.decode_latents = latents;
    return plan_memory(input).peak();
  };
  GenerateSettings& s = request.settings;
  options.decode_latents = s.decode_latents = settle_latents(options, target.device, s.decode_latents, asked, peak, note);
  // Who decodes fewer latents at once has large frames, and little memory.
  keep_little(target.device, peak(std::max(s.decode_latents, kUsualDecodeLatents)));
}

void pass_decoding(const ResolvedModel& model, const ModelTarget& target, bool asked, GenerateOptions& options, MagiRequest& request, std::string& note) {
  MagiPlanInput input = plan_magi_decoder(model, target);
  input.frames_go = frame_target(options, /*grows=*/false);
  input.request = request;
  const auto peak = [&](int latents) {
    input.request.decode_latents = latents;
    return plan_memory(input).peak();
  };
  if (has_wan_vae(model.recipe))
    options.decode_latents = request.decode_latents = settle_latents(options, target.device, request.decode_latents, asked, peak, note);
  else if (const std::optional<MemoryRoom> room = memory_room(options, target.device))
    check_memory(options, plan_memory(input), memory_outlook(options, input, room->bytes), *room);
  keep_little(target.device, peak(request.config.run.chunk_frames));
}

}  // namespace longtake
