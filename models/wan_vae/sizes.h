// The sizes of a Wan VAE: which layers it has and how wide they are, read from a checkpoint's names and shapes or built
// from the usual four numbers. Everything else (layers, costs, weight lists) follows from this description. Source:
// skyreels_v2.md sections 5.2 and 5.3.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace longtake {

class WeightSource;

using NamedShapes = std::vector<std::pair<std::string, std::vector<int64_t>>>;

// One entry of encoder.downsamples or decoder.upsamples.
struct VaeLayer {
  enum class Kind { residual, downsample, upsample };
  Kind kind;
  int64_t in;             // channels
  int64_t out;            // channels
  bool temporal = false;  // a resampling layer that also halves or doubles the frames
};

// Encoder or decoder. The encoder runs conv1, layers, middle, head; the decoder conv1, middle, layers, head.
struct VaeCoderSizes {
  int64_t input;   // channels entering conv1
  int64_t base;    // channels leaving conv1
  int64_t output;  // channels leaving the head
  int64_t middle;  // width of the middle (residual, attention, residual)
  int64_t head;    // channels entering the head: those leaving the middle (encoder) or the last layer (decoder)
  std::vector<VaeLayer> layers;

  int64_t spatial_factor() const;   // 8 for Wan: H and W divided or multiplied by it
  int64_t temporal_factor() const;  // 4 for Wan: 1 + 4k frames are 1 + k latents
};

struct VaeSizes {
  int64_t z_dim;          // latent channels (16 for Wan)
  VaeCoderSizes encoder;  // 3 -> 2 * z_dim
  VaeCoderSizes decoder;  // z_dim -> 3

  int64_t spatial_factor() const { return encoder.spatial_factor(); }
  int64_t temporal_factor() const { return encoder.temporal_factor(); }
};

// Sizes from a checkpoint; Error (bad_file) naming the tensor where the names or shapes do not make a Wan VAE.
VaeSizes read_vae_sizes(const WeightSource& source);

// Sizes from the usual numbers: stage widths are base * multipliers[i]; encoder stages have res_blocks residual blocks,
// decoder stages one more; temporal_down[i] says whether the resampling after encoder stage i also halves time (one
// entry fewer than stages). The released model is make_vae_sizes(96, {1, 2, 4, 4}, 2, {false, true, true}).
VaeSizes make_vae_sizes(int64_t base, const std::vector<int64_t>& multipliers, int64_t res_blocks,
                        const std::vector<bool>& temporal_down, int64_t z_dim = 16);

// Every weight of such a VAE: original checkpoint name and shape.
NamedShapes list_vae_weights(const VaeSizes& sizes);

}  // namespace longtake
