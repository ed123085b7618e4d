// Whether a run fits into memory, asked before anything is loaded; and what would make it fit.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/memory_plan.h"
#include "runtime/options.h"

namespace longtake {

// What a run may take, and who says so ("free on cuda:0", "left of --memory-budget").
struct MemoryRoom {
  double bytes = 0;
  std::string reason;
};

// The budget of the options, else what is free: on a GPU as its driver says, on the CPU what the system can give without swapping,
// or what the process's control group still may take where that is less. Nothing where neither tells.
std::optional<MemoryRoom> memory_room(const GenerateOptions& options, const at::Device& device);

// The smaller of MemAvailable in `meminfo` (the text of /proc/meminfo) and what is left below the limits of the control groups in
// `cgroup_root` that `cgroup` (the text of /proc/self/cgroup) names, versions 1 and 2; bytes, nothing where none of them tells.
std::optional<double> available_memory(const std::string& meminfo, const std::string& cgroup, const std::string& cgroup_root);

// How a run decodes.
struct DecodeChoice {
  int latents = kUsualDecodeLatents;  // at once
  bool ahead = false;                 // beside denoising, or behind each window (GenerateSettings::decode_ahead)
};
// The first that fits: as asked, behind each window, and then where `may_lower` as many latents at once as fit. The last one tried where none
// fits. `peak`: what is predicted of a choice.
DecodeChoice choose_decoding(const DecodeChoice& asked, bool may_lower, const std::function<double(const DecodeChoice&)>& peak, double room);
// Of SkyReels-V2: beside denoising where the input's settings have it so; the options may leave open how many latents (--decode-latents 0).
DecodeChoice choose_decoding(const GenerateOptions& options, PlanInput input, double room);

// Where nothing but decoding is to be done: as many latents at once as asked for, or where `may_lower` as many fewer as fit. `peak`: what is
// predicted with so many. Throws (no_memory) where none fits: expected, found, and what would.
int choose_decode_latents(int asked, bool may_lower, const std::function<double(int)>& peak, const MemoryRoom& room, const at::Device& device);

// A change of the options, and the peak that is predicted with it.
struct MemoryRemedy {
  std::string flags;
  double peak = 0;
};
// What a family's runs can do about their memory.
struct MemoryOutlook {
  struct Change {
    std::string flags;
    std::function<void(GenerateOptions&)> apply;
  };
  std::vector<Change> changes;  // those first that change least in the video
  // The peak that is predicted with such options, on the device and with the files as they are; infinite where they do not go together.
  std::function<double(const GenerateOptions&)> peak;
  std::string otherwise;  // what is left to do where no flag helps
};
// Of SkyReels-V2; refers to the input.
MemoryOutlook memory_outlook(const GenerateOptions& options, const PlanInput& input, double room);

// Changes that lower the peak, in their order, and a smaller size; where none of them is enough, also all together.
std::vector<MemoryRemedy> memory_remedies(const GenerateOptions& options, const MemoryOutlook& outlook, double room);

// Throws (no_memory) where the plan is larger than the room: expected, found, and the flags that would make it fit.
void check_memory(const GenerateOptions& options, const MemoryPlan& plan, const MemoryOutlook& outlook, const MemoryRoom& room);

}  // namespace longtake
