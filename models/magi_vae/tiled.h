// MAGI-1's VAE over tiles, so that memory depends on the tile and not on the clip, and as the diffusion model was
// trained: tiles overlap in space, where they are blended, and follow one another in time.
//
// Tiles in time know nothing of each other. A clip may therefore be coded in pieces; the result is bit for bit that of
// the whole where every piece but the last holds a multiple of the tile's latent frames (released: 3; MAGI-1's chunks
// have 6). Source: magi1.md section 4.4.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "models/magi_vae/magi_vae.h"

namespace longtake {

// In latents; pixels are patch_size and frames patch_length times as many. Tiles begin every `size - overlap` latents
// in space while that lies within the clip, so those at the far edges are shorter.
struct MagiTiling {
  int64_t size = 32;    // height and width of a tile
  int64_t overlap = 8;  // of neighbours in space; 0 <= overlap < size
  int64_t frames = 3;   // latent frames of a tile

  // The grid of the model's position table with an overlap of a quarter and 3 latent frames: half a second at 24 fps.
  static MagiTiling of(const MagiVaeConfig& config);
};

// The tiles along one axis of `size`: [begin, begin + length) each, of which all but the last keep their first
// `stride`.
struct MagiTileSpan {
  int64_t begin, length, kept;
  bool operator==(const MagiTileSpan&) const = default;
};
std::vector<MagiTileSpan> magi_tile_spans(int64_t size, int64_t tile, int64_t stride);

// As MagiVae::encode_mean and encode. Each tile is blended into neighbours that are blended already.
at::Tensor encode_mean_tiled(const MagiVae& vae, const at::Tensor& video, const MagiTiling& tiling);
at::Tensor encode_tiled(const MagiVae& vae, const at::Tensor& video, const MagiTiling& tiling);

// As MagiVae::decode_mean and decode. Each tile is blended with neighbours as they came from the decoder. A tile of one
// latent frame gives its four frames, unless the VAE was made with lone_latent_still.
at::Tensor decode_mean_tiled(const MagiVae& vae, const at::Tensor& mean, const MagiTiling& tiling,
                             MagiClip clip = MagiClip::video);
at::Tensor decode_tiled(const MagiVae& vae, const at::Tensor& latents, const MagiTiling& tiling,
                        MagiClip clip = MagiClip::video);

}  // namespace longtake
