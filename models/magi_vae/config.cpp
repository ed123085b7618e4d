#include "models/magi_vae/config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/strict_json.h"
#include "base/suggest.h"
#include "models/weights/mapped_file.h"

namespace longtake {
namespace {

using Json = nlohmann::json;

// No released model comes near these; they keep products of sizes within 64 bits.
constexpr int64_t kLargest = 1 << 16;

class Fields {
 public:
  Fields(const Json& json, std::string file) : json_(json), file_(std::move(file)) {}

  int64_t whole(const std::string& field, int64_t least = 1) {
    const double value = number(field);
    if (value != std::floor(value) || value < static_cast<double>(least) || value > static_cast<double>(kLargest)) {
      fail_file("{}: 'ddconfig.{}' must be a whole number from {} to {}, found {}", file_, field, least, kLargest,
                value);
    }
    return static_cast<int64_t>(value);
  }

  double number(const std::string& field) {
    const Json& value = at(field);
    if (!value.is_number()) fail_file("{}: 'ddconfig.{}' must be a number, found {}", file_, field, value.dump());
    return value.get<double>();
  }

  // A switch of the architecture, of which only one position exists here. Those that are off may be left out.
  void require(const std::string& field, bool wanted) {
    if (!wanted && !json_.contains(field)) {
      known_.push_back(field);
      return;
    }
    const Json& value = at(field);
    if (!value.is_boolean()) fail_file("{}: 'ddconfig.{}' must be true or false, found {}", file_, field, value.dump());
    if (value.get<bool>() != wanted) {
      fail_file("{}: 'ddconfig.{}' is {}, and longtake runs MAGI-1's VAE, where it is {}; give that VAE's folder",
                file_, field, !wanted, wanted);
    }
  }

  void refuse_others() const {
    for (const auto& [field, value] : json_.items()) {
      if (std::find(known_.begin(), known_.end(), field) == known_.end()) {
        fail_file("{}: does not know 'ddconfig.{}'{}", file_, field, did_you_mean(field, known_));
      }
    }
  }

 private:
  const Json& at(const std::string& field) {
    known_.push_back(field);
    const auto it = json_.find(field);
    if (it == json_.end()) fail_file("{}: lacks 'ddconfig.{}'; is this the config.json of MAGI-1's VAE?", file_, field);
    return *it;
  }

  const Json& json_;
  std::string file_;
  std::vector<std::string> known_;
};

// `size` in whole parts of `part`.
void check_divides(const std::string& name, const std::string& whole, int64_t size, const std::string& part,
                   int64_t divisor) {
  if (size % divisor != 0) {
    fail_file("{}: 'ddconfig.{}' must be a multiple of {} {}, found {}", name, whole, part, divisor, size);
  }
}

void check_text(const Json& json, const std::string& name, const std::string& field, const std::string& wanted) {
  const auto it = json.find(field);
  if (it == json.end() || *it != wanted) {
    fail_file("{}: '{}' must be \"{}\", found {}; give the config.json of MAGI-1's VAE", name, field, wanted,
              it == json.end() ? "nothing" : it->dump());
  }
}

}  // namespace

MagiVaeConfig parse_magi_vae_config(std::span<const uint8_t> text, const std::string& name) {
  const Json json = parse_strict_json(text, name);
  check_text(json, name, "_class_name", "ViTVAE");
  check_text(json, name, "model_type", "vit");
  const auto sizes = json.find("ddconfig");
  if (sizes == json.end() || !sizes->is_object()) {
    fail_file("{}: has no object 'ddconfig' with the VAE's sizes; is this the config.json of MAGI-1's VAE?", name);
  }

  Fields fields(*sizes, name);
  MagiVaeConfig config;
  config.video_size = fields.whole("video_size");
  config.video_length = fields.whole("video_length");
  config.patch_size = fields.whole("patch_size");
  config.patch_length = fields.whole("patch_length");
  config.channels = fields.whole("in_chans");
  config.latent_channels = fields.whole("z_chans");
  config.dim = fields.whole("embed_dim");
  config.depth = fields.whole("depth");
  config.heads = fields.whole("num_heads");
  const double ratio = fields.number("mlp_ratio");
  for (const char* on : {"double_z", "qkv_bias", "with_cls_token", "ln_in_attn", "conv_last_layer"})
    fields.require(on, true);
  for (const char* off : {"norm_code", "use_rope", "use_final_proj"}) fields.require(off, false);
  fields.refuse_others();

  const double ffn = static_cast<double>(config.dim) * ratio;
  if (!(ffn >= 1) || ffn > static_cast<double>(kLargest) * 16) {
    fail_file("{}: 'ddconfig.mlp_ratio' must be a positive number, found {}", name, ratio);
  }
  config.ffn = static_cast<int64_t>(ffn);
  if (config.channels != 3) fail_file("{}: 'ddconfig.in_chans' must be 3 (RGB), found {}", name, config.channels);
  check_divides(name, "video_size", config.video_size, "patch_size", config.patch_size);
  check_divides(name, "video_length", config.video_length, "patch_length", config.patch_length);
  check_divides(name, "embed_dim", config.dim, "num_heads", config.heads);
  check_divides(name, "embed_dim", config.dim, "the pixels of a patch,", config.patch_pixels());
  return config;
}

MagiVaeConfig read_magi_vae_config(const std::filesystem::path& path) {
  const std::filesystem::path file = std::filesystem::is_directory(path) ? path / "config.json" : path;
  return parse_magi_vae_config(MappedFile::open(file)->bytes(), file.string());
}

std::vector<std::pair<std::string, std::vector<int64_t>>> list_magi_vae_weights(const MagiVaeConfig& config) {
  const int64_t dim = config.dim, ffn = config.ffn, patch = config.patch_size;
  const int64_t positions = 1 + config.grid_length() * config.grid() * config.grid();
  std::vector<std::pair<std::string, std::vector<int64_t>>> list;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    const int64_t out = shape[0];
    list.push_back({name + ".weight", std::move(shape)});
    list.push_back({name + ".bias", {out}});
  };
  for (const std::string coder : {"encoder", "decoder"}) {
    list.push_back({coder + ".cls_token", {1, 1, dim}});
    list.push_back({coder + ".pos_embed", {1, positions, dim}});
    for (int64_t i = 0; i < config.depth; ++i) {
      const std::string name = fmt::format("{}.blocks.{}.", coder, i);
      add(name + "attn.qkv", {3 * dim, dim});
      add(name + "attn.proj", {dim, dim});
      add(name + "norm2", {dim});
      add(name + "mlp.fc1", {ffn, dim});
      add(name + "mlp.fc2", {dim, ffn});
    }
    add(coder + ".norm", {dim});
  }
  add("encoder.patch_embed.proj", {dim, config.channels, config.patch_length, patch, patch});
  add("encoder.last_layer", {2 * config.latent_channels, dim});
  add("decoder.proj_in", {dim, config.latent_channels});
  add("decoder.last_layer", {config.channels, config.pixel_values(), 3, 3, 3});
  return list;
}

}  // namespace longtake
