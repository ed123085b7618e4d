// Jumps at the borders of windows and chunks: how much the picture changes there against how much it changes elsewhere.
//
// The step of frame t is the mean absolute change of all pixels from frame t - 1 to frame t, in 8-bit levels, of luma
// (BT.709 weights, full range) and of chroma (mean over Cb and Cr). A border's jump is its step divided by the median
// step of all frames that begin neither window nor chunk: 1 means that nobody can see the border.
#pragma once

#include <ATen/core/Tensor.h>

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/run_layout.h"
#include "runtime/windows.h"

namespace longtake {

// The frames that begin something, ascending; frame 0 is none of them.
struct Borders {
  std::vector<int64_t> windows, chunks;  // no frame is in both
};

Borders borders_of(const WindowPlan& plan);
// The same of a run, whatever the model's family; of one that shows all its frames.
Borders borders_of(const RunLayout& layout);

struct SeamJump {
  int64_t frame = 0;
  double luma = 0, chroma = 0;            // step divided by the median step elsewhere
  double luma_step = 0, chroma_step = 0;  // 8-bit levels
};

struct SeamReport {
  double median_luma = 0, median_chroma = 0;  // steps elsewhere, 8-bit levels
  std::vector<SeamJump> windows, chunks;      // in the order of frames
  std::optional<SeamJump> largest;            // the largest luma jump of all frames; none for a single frame
};

// The divisor is at least this: a clip that stands still would make jumps out of nothing.
inline constexpr double kSmallestStep = 0.05;  // 8-bit levels

// Frames: uint8 [T, H, W, 3], any device. Borders outside the clip are errors (usage).
SeamReport measure_seams(const at::Tensor& frames, const Borders& borders);

// The mean jump of a list; none where it is empty.
struct MeanJump {
  double luma = 0, chroma = 0;
};
std::optional<MeanJump> mean_jump(const std::vector<SeamJump>& jumps);

// {"median_step": {"luma", "chroma"}, "windows" | "chunks": [{"frame", "luma", "chroma", ...}], "largest": {...}}
nlohmann::ordered_json seam_json(const SeamReport& report);

}  // namespace longtake
