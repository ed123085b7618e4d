#include "models/magi_vae/cost.h"

#include <algorithm>

namespace longtake {
namespace {

// A clip in latents.
struct Extent {
  int64_t frames, height, width;
};

Extent extent_of(const MagiVaeConfig& config, int64_t height, int64_t width, int64_t frames) {
  return {std::max<int64_t>(frames / config.patch_length, 1), height / config.patch_size, width / config.patch_size};
}

// Of all tiles together; `token_values` multiply-adds a token outside the blocks.
double tiles_flops(const MagiVaeConfig& config, const MagiTiling& tiling, const Extent& clip, double token_values) {
  const auto dim = static_cast<double>(config.dim), ffn = static_cast<double>(config.ffn);
  double flops = 0;
  for (const MagiTileSpan& frames : magi_tile_spans(clip.frames, tiling.frames, tiling.frames))
    for (const MagiTileSpan& row : magi_tile_spans(clip.height, tiling.size, tiling.size - tiling.overlap))
      for (const MagiTileSpan& column : magi_tile_spans(clip.width, tiling.size, tiling.size - tiling.overlap)) {
        const auto tokens = static_cast<double>(frames.length * row.length * column.length), all = tokens + 1;
        const double linear = 2 * all * (4 * dim * dim + 2 * dim * ffn), attention = 4 * all * all * dim;
        flops += static_cast<double>(config.depth) * (linear + attention) + 2 * tokens * token_values;
      }
  return flops;
}

// A tile's activations in the transformer, beside its `outer_bytes` a token outside.
int64_t transformer_bytes(const MagiVaeConfig& config, int64_t tokens, int64_t bytes, int64_t outer_bytes) {
  const int64_t dim = config.dim, cast = bytes == 4 ? 0 : 1;
  // q, k and v with their float32 forms: wide, and normed.
  const int64_t attention = dim * (4 * bytes + 12 * cast + 12);
  // x, the normed x, the wide layer before and after its activation, the sum.
  const int64_t mlp = dim * (3 * bytes + 4 + bytes * cast) + 2 * config.ffn * bytes;
  return (tokens + 1) * (std::max(attention, mlp) + outer_bytes);
}

// Goes through one tile in time as code_frames does, and adds the whole result. A tile's activations take `outer_bytes` a token outside the
// transformer, and what comes of it `values` float32 values for each latent: tiles of this row and the one above wait for their neighbours.
int64_t peak_bytes(const MagiVaeConfig& config, const MagiTiling& tiling, const Extent& clip, int64_t value_bytes, int64_t outer_bytes, int64_t values) {
  const int64_t frames = std::min(tiling.frames, clip.frames);
  int64_t peak = 0, above = 0;
  for (const MagiTileSpan& row : magi_tile_spans(clip.height, tiling.size, tiling.size - tiling.overlap)) {
    int64_t done = 0;
    for (const MagiTileSpan& column : magi_tile_spans(clip.width, tiling.size, tiling.size - tiling.overlap)) {
      const int64_t tokens = frames * row.length * column.length, tile = 4 * values * tokens;
      // Blended with two neighbours, it is there three times, and its faded edge.
      peak = std::max(peak, above + done + std::max(transformer_bytes(config, tokens, value_bytes, outer_bytes), 4 * tile));
      done += tile;
    }
    above = done;
  }
  return peak + 4 * values * clip.frames * clip.height * clip.width;
}

double pixel_conv_values(const MagiVaeConfig& config) {
  return static_cast<double>(27 * config.pixel_values() * config.channels * config.patch_pixels());
}

}  // namespace

double magi_vae_decode_flops(const MagiVaeConfig& config, const MagiTiling& tiling, int64_t height, int64_t width,
                             int64_t frames) {
  const double values = static_cast<double>(config.latent_channels * config.dim) + pixel_conv_values(config);
  return tiles_flops(config, tiling, extent_of(config, height, width, frames), values);
}

double magi_vae_encode_flops(const MagiVaeConfig& config, const MagiTiling& tiling, int64_t height, int64_t width,
                             int64_t frames) {
  const int64_t values = config.dim * (config.channels * config.patch_pixels() + 2 * config.latent_channels);
  return tiles_flops(config, tiling, extent_of(config, height, width, frames), static_cast<double>(values));
}

int64_t magi_vae_decode_peak_bytes(const MagiVaeConfig& config, const MagiTiling& tiling, int64_t height, int64_t width,
                                   int64_t frames, int64_t value_bytes) {
  return peak_bytes(config, tiling, extent_of(config, height, width, frames), value_bytes, config.dim * value_bytes,
                    config.channels * config.patch_pixels());
}

int64_t magi_vae_encode_peak_bytes(const MagiVaeConfig& config, const MagiTiling& tiling, int64_t height, int64_t width,
                                   int64_t frames, int64_t value_bytes) {
  const int64_t patch = config.channels * config.patch_pixels();
  return peak_bytes(config, tiling, extent_of(config, height, width, frames), value_bytes, (config.dim + 2 * patch) * value_bytes,
                    config.latent_channels);
}

}  // namespace longtake
