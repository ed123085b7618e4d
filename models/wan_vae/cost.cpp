#include "models/wan_vae/cost.h"

#include <algorithm>

#include "models/wan_vae/layers.h"

namespace longtake {
namespace {

// Goes through a coder layer by layer as VaeCoder runs it. `frames` counts those of the current resolution;
// `with_first` says whether they include the clip's first frame, which resampling neither doubles nor halves.
class Walk {
 public:
  Walk(int64_t height, int64_t width, int64_t frames, bool with_first, int64_t value_bytes)
      : height_(height), width_(width), frames_(frames), first_(with_first ? 1 : 0), bytes_(value_bytes) {}

  double flops() const { return flops_; }
  int64_t peak_bytes() const { return peak_ + history_; }
  int64_t history_bytes() const { return history_; }

  void run(const VaeCoderSizes& sizes, bool decoder) {
    live({sizes.input, sizes.input});
    conv(sizes.input, sizes.base, 0);
    if (decoder) middle(sizes.middle);
    for (const VaeLayer& layer : sizes.layers) {
      switch (layer.kind) {
        case VaeLayer::Kind::residual:
          residual(layer.in, layer.out);
          break;
        case VaeLayer::Kind::downsample:
          downsample(layer);
          break;
        case VaeLayer::Kind::upsample:
          upsample(layer);
          break;
      }
    }
    if (!decoder) middle(sizes.middle);
    norm(sizes.head, 0);
    conv(sizes.head, sizes.output, 0);
  }

  // Multiply-adds of `in` inputs a tap for each of `out` outputs at every position.
  void product(int64_t in, int64_t out, int64_t taps = 1) {
    flops_ += 2.0 * static_cast<double>(in * out * taps) * static_cast<double>(positions());
  }

 private:
  int64_t positions() const { return frames_ * height_ * width_; }

  // Tensors of these channels exist at the same time, at the current resolution.
  void live(std::initializer_list<int64_t> channels, int64_t extra_bytes = 0) {
    int64_t sum = 0;
    for (const int64_t c : channels) sum += c;
    peak_ = std::max(peak_, sum * positions() * bytes_ + extra_bytes);
  }

  // Input, output, `others` channels held meanwhile, and the float32 intermediate of one group of frames.
  void norm(int64_t channels, int64_t others) {
    const int64_t frame = channels * height_ * width_;
    const int64_t group = std::max(frame, VaeNorm::kGroupValues);
    const int64_t intermediate = bytes_ == 4 ? 0 : 4 * std::min(frame * frames_, group);
    live({channels, channels, others}, intermediate);
  }

  // The input is joined with two frames of history, then goes; `others` channels are held meanwhile.
  void conv(int64_t in, int64_t out, int64_t others, int64_t kernel = 9) {
    product(in, out, 3 * kernel);
    const int64_t before = 2 * in * height_ * width_ * bytes_;
    history_ += before;
    live({in, in, others}, before);
    live({in, out, others}, before);
  }

  void residual(int64_t in, int64_t out) {
    norm(in, 0);
    conv(in, out, in);
    norm(out, in);
    live({in, out, out});
    if (in != out) product(in, out);
    conv(out, out, out);
  }

  void middle(int64_t width) {
    residual(width, width);
    product(width, 4 * width);
    flops_ +=
        4.0 * static_cast<double>(width) * static_cast<double>(height_ * width_) * static_cast<double>(positions());
    live({6 * width});  // input, normed input, q k v, attended
    residual(width, width);
  }

  void downsample(const VaeLayer& layer) {
    live({2 * layer.in});  // padded copy
    const int64_t before = layer.in * positions() * bytes_;
    height_ /= 2;
    width_ /= 2;
    product(layer.in, layer.out, 9);
    live({layer.out}, before);  // padded copy and output
    if (!layer.temporal) return;
    live({2 * layer.out});  // joined with the history
    history_ += layer.out * height_ * width_ * bytes_;
    const int64_t all = frames_;
    frames_ = (all - first_) / 2;
    product(layer.out, layer.out, 3);
    frames_ += first_;
  }

  void upsample(const VaeLayer& layer) {
    if (layer.temporal) {
      frames_ -= first_;
      conv(layer.in, 2 * layer.in, 0, 1);
      live({4 * layer.in});  // doubled channels and their interleaved copy
      frames_ = 2 * frames_ + first_;
    }
    const int64_t before = layer.in * positions() * bytes_;
    height_ *= 2;
    width_ *= 2;
    live({layer.in}, before);
    product(layer.in, layer.out, 9);
    live({layer.in, layer.out});
  }

  int64_t height_, width_, frames_, first_, bytes_;
  double flops_ = 0;
  int64_t peak_ = 0;
  int64_t history_ = 0;
};

Walk walk_decoder(const VaeSizes& sizes, int64_t height, int64_t width, int64_t latents, bool first, int64_t bytes) {
  Walk walk(height / sizes.spatial_factor(), width / sizes.spatial_factor(), latents, first, bytes);
  walk.product(sizes.z_dim, sizes.z_dim);
  walk.run(sizes.decoder, true);
  return walk;
}

Walk walk_encoder(const VaeSizes& sizes, int64_t height, int64_t width, int64_t frames, bool first, int64_t bytes) {
  Walk walk(height, width, frames, first, bytes);
  walk.run(sizes.encoder, false);
  walk.product(2 * sizes.z_dim, 2 * sizes.z_dim);
  return walk;
}

}  // namespace

double vae_decode_flops(const VaeSizes& sizes, int64_t height, int64_t width, int64_t frames) {
  const int64_t latents = (frames - 1) / sizes.temporal_factor() + 1;
  return walk_decoder(sizes, height, width, latents, true, 4).flops();
}

double vae_encode_flops(const VaeSizes& sizes, int64_t height, int64_t width, int64_t frames) {
  return walk_encoder(sizes, height, width, frames, true, 4).flops();
}

int64_t vae_decode_push_bytes(const VaeSizes& sizes, int64_t height, int64_t width, int64_t latents, bool first, int64_t value_bytes) {
  return walk_decoder(sizes, height, width, latents, first, value_bytes).peak_bytes();
}

int64_t vae_decode_peak_bytes(const VaeSizes& sizes, int64_t height, int64_t width, int64_t latents, int64_t at_once,
                              int64_t value_bytes) {
  const auto peak = [&](int64_t pushed, bool first) { return vae_decode_push_bytes(sizes, height, width, pushed, first, value_bytes); };
  const int64_t first = std::min(latents, at_once), next = std::min(latents - first, at_once);
  return next == 0 ? peak(first, true) : std::max(peak(first, true), peak(next, false));
}

int64_t vae_decode_history_bytes(const VaeSizes& sizes, int64_t height, int64_t width, int64_t value_bytes) {
  return walk_decoder(sizes, height, width, 1, false, value_bytes).history_bytes();
}

int64_t vae_encode_peak_bytes(const VaeSizes& sizes, int64_t height, int64_t width, int64_t latents,
                              int64_t value_bytes) {
  return walk_encoder(sizes, height, width, latents * sizes.temporal_factor(), false, value_bytes).peak_bytes();
}

}  // namespace longtake
