// The configuration file of a MAGI-1 checkpoint (4.5B_*_config.json, 24B_*_config.json): model, run and engine
// settings.
//
// Spec: magi1.md 1.1-1.3. As in the reference, every field of the three sections must be there; a field that is
// missing, unknown, of another type or out of range is an Error (bad_file) that names it. Fields that only concern the
// reference's own processes (devices, paths, parallelism) are checked for their type and not kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace longtake::magi {

// Sizes of the transformer.
struct ModelConfig {
  int64_t layers = 0;
  int64_t dim = 0;         // hidden_size = heads * head_width
  int64_t ffn_dim = 0;     // ffn_hidden_size; the first layer of a gated MLP is twice as wide
  int64_t heads = 0;       // of queries
  int64_t kv_heads = 0;    // num_query_groups
  int64_t head_width = 0;  // kv_channels
  double eps = 1e-6;       // of all LayerNorms
  // apply_layernorm_1p: gains are stored less 1, but for the two norms before a linear layer
  bool norm_plus_one = true;
  double x_rescale_factor = 1;  // latents * this before the network, velocity / this after it
  // latents have half of in_channels and go in twice; the first half of out_channels counts
  bool half_channel_vae = false;
  int64_t in_channels = 0, out_channels = 0;
  int64_t condition_dim = 0;   // hidden_size * cond_hidden_ratio
  int64_t caption_dim = 0;     // caption_channels: width of the text encoder
  int64_t caption_length = 0;  // caption_max_length
  bool gated_mlp = false;      // gated_linear_unit: SwiGLU, else GELU

  int64_t latent_channels() const { return half_channel_vae ? in_channels / 2 : in_channels; }
  static constexpr int64_t patch = 2;  // spatial patch edge; the temporal one is 1
};

// Defaults of a run.
struct RunConfig {
  int branches = 3;                       // cfg_number: forwards a step
  std::vector<double> guidance_times;     // cfg_t_range: left edges of the guidance intervals
  std::vector<double> prev_chunk_scales;  // one for each interval
  std::vector<double> text_scales;        // likewise
  std::vector<int> key_chunks;  // noise2clean_kvrange: chunks visible in each equal part of the schedule; empty: all
  int clean_key_chunks = 1;     // clean_chunk_kvrange: the same for a finished chunk; -1: as in the last part
  double clean_t = 0.9999;      // timestep of finished chunks
  int64_t seed = 0;
  int frames = 0, height = 0, width = 0;  // of the video, pixels
  int steps = 0, window = 0;              // denoising steps of a chunk; chunks in flight
  int fps = 0;
  int chunk_frames = 0;         // chunk_width: latent frames
  double scale_factor = 0;      // latent = VAE mean * this
  int temporal_downsample = 0;  // pixel frames of one latent frame
  // Frames that a video's first latent frame lacks; no field of the file: 0 in the published models, 3 where it is one frame alone.
  int missing_frames = 0;
};

struct EngineConfig {
  bool distilled = false;             // conditioned on the step size too; one forward a step
  bool fp8 = false;                   // fp8_quant
  double nearly_clean_threshold = 0;  // distill_nearly_clean_chunk_threshold
  std::string shortcut_mode;          // "8,16,16" or "16,16,8": step sizes of the 12-step grid
};

struct Config {
  ModelConfig model;
  RunConfig run;
  EngineConfig engine;

  static Config read(const std::filesystem::path& file);
  // `what` begins every message.
  static Config parse(const std::string& json, const std::string& what);
};

}  // namespace longtake::magi
