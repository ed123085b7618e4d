#include "models/wan_vae/sizes.h"

#include "base/error.h"
#include "models/weights/source.h"

namespace longtake {
namespace {

constexpr int64_t kImageChannels = 3;

std::vector<int64_t> shape_of_rank(const WeightSource& source, const std::string& name, size_t rank) {
  std::vector<int64_t> shape = source.shape(name);
  if (shape.size() != rank) {
    fail_file("the VAE's tensor {} has {} dimensions where a Wan VAE has {}; give a Wan 2.1 VAE checkpoint", name,
              shape.size(), rank);
  }
  return shape;
}

// Reads layers until a number is missing. `channels` is the width entering the first of them.
std::vector<VaeLayer> read_layers(const WeightSource& source, const std::string& prefix, int64_t channels, bool up) {
  std::vector<VaeLayer> layers;
  for (int i = 0;; ++i) {
    const std::string name = fmt::format("{}.{}.", prefix, i);
    if (source.has(name + "residual.2.weight")) {
      const int64_t out = shape_of_rank(source, name + "residual.2.weight", 5)[0];
      layers.push_back({VaeLayer::Kind::residual, channels, out, false});
    } else if (source.has(name + "resample.1.weight")) {
      const auto kind = up ? VaeLayer::Kind::upsample : VaeLayer::Kind::downsample;
      layers.push_back({kind, channels, up ? channels / 2 : channels, source.has(name + "time_conv.weight")});
    } else {
      break;
    }
    channels = layers.back().out;
  }
  return layers;
}

void list_conv(NamedShapes& list, const std::string& name, std::vector<int64_t> shape) {
  const int64_t out = shape[0];
  list.emplace_back(name + ".weight", std::move(shape));
  list.emplace_back(name + ".bias", std::vector<int64_t>{out});
}

void list_residual(NamedShapes& list, const std::string& name, int64_t in, int64_t out) {
  list.emplace_back(name + ".residual.0.gamma", std::vector<int64_t>{in, 1, 1, 1});
  list_conv(list, name + ".residual.2", {out, in, 3, 3, 3});
  list.emplace_back(name + ".residual.3.gamma", std::vector<int64_t>{out, 1, 1, 1});
  list_conv(list, name + ".residual.6", {out, out, 3, 3, 3});
  if (in != out) list_conv(list, name + ".shortcut", {out, in, 1, 1, 1});
}

void list_coder(NamedShapes& list, const std::string& name, const std::string& stage, const VaeCoderSizes& sizes) {
  list_conv(list, name + ".conv1", {sizes.base, sizes.input, 3, 3, 3});
  for (size_t i = 0; i < sizes.layers.size(); ++i) {
    const VaeLayer& layer = sizes.layers[i];
    const std::string prefix = fmt::format("{}.{}.{}", name, stage, i);
    if (layer.kind == VaeLayer::Kind::residual) {
      list_residual(list, prefix, layer.in, layer.out);
      continue;
    }
    list_conv(list, prefix + ".resample.1", {layer.out, layer.in, 3, 3});
    if (layer.temporal) {
      const int64_t out = layer.kind == VaeLayer::Kind::upsample ? 2 * layer.in : layer.in;
      list_conv(list, prefix + ".time_conv", {out, layer.in, 3, 1, 1});
    }
  }
  const int64_t width = sizes.middle;
  list_residual(list, name + ".middle.0", width, width);
  list.emplace_back(name + ".middle.1.norm.gamma", std::vector<int64_t>{width, 1, 1});
  list_conv(list, name + ".middle.1.to_qkv", {3 * width, width, 1, 1});
  list_conv(list, name + ".middle.1.proj", {width, width, 1, 1});
  list_residual(list, name + ".middle.2", width, width);
  list.emplace_back(name + ".head.0.gamma", std::vector<int64_t>{sizes.head, 1, 1, 1});
  list_conv(list, name + ".head.2", {sizes.output, sizes.head, 3, 3, 3});
}

}  // namespace

int64_t VaeCoderSizes::spatial_factor() const {
  int64_t factor = 1;
  for (const VaeLayer& layer : layers) factor *= layer.kind == VaeLayer::Kind::residual ? 1 : 2;
  return factor;
}

int64_t VaeCoderSizes::temporal_factor() const {
  int64_t factor = 1;
  for (const VaeLayer& layer : layers) factor *= layer.temporal ? 2 : 1;
  return factor;
}

VaeSizes read_vae_sizes(const WeightSource& source) {
  VaeSizes sizes;
  sizes.z_dim = shape_of_rank(source, "conv2.weight", 5)[0];

  sizes.encoder.input = kImageChannels;
  sizes.encoder.output = 2 * sizes.z_dim;
  sizes.encoder.base = shape_of_rank(source, "encoder.conv1.weight", 5)[0];
  sizes.encoder.layers = read_layers(source, "encoder.downsamples", sizes.encoder.base, false);
  sizes.encoder.middle = sizes.encoder.layers.empty() ? sizes.encoder.base : sizes.encoder.layers.back().out;
  sizes.encoder.head = sizes.encoder.middle;

  sizes.decoder.input = sizes.z_dim;
  sizes.decoder.output = kImageChannels;
  sizes.decoder.base = shape_of_rank(source, "decoder.conv1.weight", 5)[0];
  sizes.decoder.middle = sizes.decoder.base;
  sizes.decoder.layers = read_layers(source, "decoder.upsamples", sizes.decoder.base, true);
  sizes.decoder.head = sizes.decoder.layers.empty() ? sizes.decoder.base : sizes.decoder.layers.back().out;

  if (sizes.encoder.spatial_factor() != sizes.decoder.spatial_factor() ||
      sizes.encoder.temporal_factor() != sizes.decoder.temporal_factor()) {
    fail_file(
        "the VAE's encoder divides space by {} and time by {}, but its decoder multiplies them by {} and {}: tensors "
        "of encoder.downsamples or "
        "decoder.upsamples are missing; fetch the checkpoint again",
        sizes.encoder.spatial_factor(), sizes.encoder.temporal_factor(), sizes.decoder.spatial_factor(),
        sizes.decoder.temporal_factor());
  }
  return sizes;
}

VaeSizes make_vae_sizes(int64_t base, const std::vector<int64_t>& multipliers, int64_t res_blocks,
                        const std::vector<bool>& temporal_down, int64_t z_dim) {
  LONGTAKE_CHECK(!multipliers.empty() && temporal_down.size() + 1 == multipliers.size() && base > 0 && res_blocks > 0,
                 "{} multipliers need {} temporal flags, found {}", multipliers.size(), multipliers.size() - 1,
                 temporal_down.size());
  VaeSizes sizes;
  sizes.z_dim = z_dim;
  const size_t stages = multipliers.size();

  VaeCoderSizes& encoder = sizes.encoder;
  encoder.input = kImageChannels;
  encoder.output = 2 * z_dim;
  encoder.base = base;
  int64_t width = encoder.base;
  for (size_t stage = 0; stage < stages; ++stage) {
    for (int64_t block = 0; block < res_blocks; ++block) {
      encoder.layers.push_back({VaeLayer::Kind::residual, width, base * multipliers[stage], false});
      width = base * multipliers[stage];
    }
    if (stage + 1 < stages) encoder.layers.push_back({VaeLayer::Kind::downsample, width, width, temporal_down[stage]});
  }
  encoder.middle = encoder.head = width;

  VaeCoderSizes& decoder = sizes.decoder;
  decoder.input = z_dim;
  decoder.output = kImageChannels;
  decoder.base = decoder.middle = base * multipliers.back();
  width = decoder.base;
  for (size_t stage = stages; stage-- > 0;) {
    for (int64_t block = 0; block <= res_blocks; ++block) {
      decoder.layers.push_back({VaeLayer::Kind::residual, width, base * multipliers[stage], false});
      width = base * multipliers[stage];
    }
    if (stage > 0) {
      // The upsampling convolution halves the channels.
      decoder.layers.push_back({VaeLayer::Kind::upsample, width, width / 2, temporal_down[stage - 1]});
      width /= 2;
    }
  }
  decoder.head = width;
  return sizes;
}

NamedShapes list_vae_weights(const VaeSizes& sizes) {
  NamedShapes list;
  list_coder(list, "encoder", "downsamples", sizes.encoder);
  list_conv(list, "conv1", {2 * sizes.z_dim, 2 * sizes.z_dim, 1, 1, 1});
  list_conv(list, "conv2", {sizes.z_dim, sizes.z_dim, 1, 1, 1});
  list_coder(list, "decoder", "upsamples", sizes.decoder);
  return list;
}

}  // namespace longtake
