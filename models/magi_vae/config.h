// The sizes of MAGI-1's ViT VAE, from its config.json, and the weights that follow from them. Source: magi1.md
// sections 4.1 and 4.2.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace longtake {

// Encoder and decoder are two plain vision transformers of the same width and depth. The released one: defaults.
struct MagiVaeConfig {
  int64_t video_size = 256;   // pixels: edge of the square that the position table was made for
  int64_t video_length = 16;  // frames of the position table
  int64_t patch_size = 8;     // pixels in a latent, each way
  int64_t patch_length = 4;   // frames in a latent frame
  int64_t channels = 3;
  int64_t latent_channels = 16;
  int64_t dim = 1024;
  int64_t depth = 24;  // blocks of the encoder, and of the decoder
  int64_t heads = 16;
  int64_t ffn = 4096;

  int64_t grid() const { return video_size / patch_size; }             // 32: rows and columns of the position table
  int64_t grid_length() const { return video_length / patch_length; }  // 4: its latent frames
  int64_t head_dim() const { return dim / heads; }
  int64_t patch_pixels() const { return patch_length * patch_size * patch_size; }
  // Values for each pixel that leave the decoder's transformer and enter its convolution.
  int64_t pixel_values() const { return dim / patch_pixels(); }
};

// A config.json, or the folder that holds it. Error (bad_file) naming the field that is missing, unknown, of the wrong
// type, or of a value that this VAE does not have.
MagiVaeConfig read_magi_vae_config(const std::filesystem::path& path);
// Its text; `name` serves messages.
MagiVaeConfig parse_magi_vae_config(std::span<const uint8_t> text, const std::string& name);

// Every weight of such a VAE: checkpoint name and shape.
std::vector<std::pair<std::string, std::vector<int64_t>>> list_magi_vae_weights(const MagiVaeConfig& config);

}  // namespace longtake
