// What a run holds at most, stage by stage, predicted from file headers and geometry before anything is loaded.
//
// On CUDA: what LibTorch's allocator hands out. On the CPU: resident memory of the process above what it holds before it begins, mapped
// model files included. What a policy decides as it goes counts as computed, so that the plan is an upper bound there; docs/memory.md
// has it beside measurements. plan_memory is of SkyReels-V2; MAGI-1's is in magi_memory.h.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>

#include "runtime/plan_input.h"

namespace longtake {

// Bytes.
struct StageMemory {
  double weights = 0;      // of the transformer (of the text encoder while texts are encoded)
  double vae = 0;          // its weights
  double kv = 0;           // keys and values of the window, and of the texts
  double residuals = 0;    // that the policy keeps
  double activations = 0;  // of the widest row, or of an encoded text
  double coding = 0;       // what the VAE decodes or encodes with, history included
  double rest = 0;         // libraries' workspaces

  double total() const { return weights + vae + kv + residuals + activations + coding + rest; }
};

// The stages of a run, in their order.
enum class MemoryStage { text, load, denoise, decode };
inline constexpr MemoryStage kMemoryStages[] = {MemoryStage::text, MemoryStage::load, MemoryStage::denoise, MemoryStage::decode};
const char* name_of(MemoryStage stage);

struct MemoryPlan {
  StageMemory text;     // encoding the texts; the encoder is freed before the others are loaded
  StageMemory load;
  StageMemory denoise;  // with decode_ahead also what is decoded beside it
  StageMemory decode;   // behind a window's last row, when its keys and values are gone; also encoding what a window takes over
  double host = 0;      // page-locked host memory for weights that are not on the device

  const StageMemory& stage(MemoryStage stage) const;
  double peak() const;
  MemoryStage widest() const;
};

MemoryPlan plan_memory(const PlanInput& input);

// What the families' plans share.

// Of one part when it is loaded: on the CPU tensors in the wanted dtype are views of the file, which stays mapped for them.
double loaded_bytes(const PartSizes& part, double value_bytes, bool on_cpu);
// What loading has mapped besides, until it is done.
double mapped_meanwhile(const PartSizes& part, bool on_cpu);
// Libraries' workspaces.
double library_bytes(bool on_cpu, int64_t value_bytes);
// Where frames are decoded beside denoising: the heap of a second thread that computes. On the CPU alone, as what follows.
double second_thread_bytes(bool on_cpu);
// Frames that libx264 looks ahead.
inline constexpr int64_t kFramesAhead = 42;
// Where frames go: what is held there at most of a video of so many frames, the first `shown` of them not made, the others
// decoded `pushed` at once.
double frame_target_bytes(FrameTarget target, bool on_cpu, int64_t height, int64_t width, int fps, int64_t frames, int64_t shown, int64_t pushed);
// The same over a run's stages: where frames are shown before the run's own it is held in all of them, else once the run has handed on some.
struct HeldFrames {
  double always = 0, later = 0;

  static HeldFrames of(double bytes, int64_t shown) { return shown > 0 ? HeldFrames{bytes, 0} : HeldFrames{0, bytes}; }
};
// Encoding texts of `length` tokens with the encoder in `value_bytes` a value.
StageMemory plan_text(const PartSizes& encoder, const Umt5Sizes& sizes, int64_t length, int64_t value_bytes, bool on_cpu);

// A table for people, one line a stage.
std::string memory_table(const MemoryPlan& plan);
// {"text": {"predicted": bytes}, ...}
nlohmann::ordered_json memory_json(const MemoryPlan& plan);

}  // namespace longtake
