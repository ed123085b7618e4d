// Pictures that show several runs of one clip beside each other: frames of a side-by-side video, and film strips for a
// report.
//
// Under each picture lies a heat map of what was recomputed: by token column, the share of its denoising steps, dark
// for reused and bright for recomputed. All results are uint8 RGB [H, W, 3], CPU, contiguous, even sides.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace longtake {

// The colour of a share 0..1 in heat maps: dark blue over red to yellow, the same on every theme.
std::array<uint8_t, 3> heat_colour(double share);

struct Tile {
  std::string label;  // what made it
  std::string note;   // a few words below: cost
  at::Tensor frames;  // uint8 [T, H, W, 3]
  at::Tensor heat;    // float32 [latent frames, h, w], 0..1 (work_map.h); undefined for none
  int missing_frames = 3;  // of its first latent frame (RunLayout)
};

// Frame t of all tiles in a grid, scaled so that the whole is at most about 1920 pixels wide; small pictures are
// enlarged. All tiles have the same frame size. Non-ASCII characters in labels show as '?'.
at::Tensor tile_frame(std::span<const Tile> tiles, int64_t t);

// One run as a strip: the pictures at the given times, below them the change against `reference` (absolute difference,
// times kDifferenceGain; left out where undefined), below that the heat maps.
inline constexpr int kDifferenceGain = 4;
at::Tensor film_strip(const Tile& tile, const at::Tensor& reference, std::span<const int64_t> times);

}  // namespace longtake
