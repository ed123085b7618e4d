#include "models/magi_vae/tiled.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <functional>

#include "base/error.h"

namespace longtake {
namespace {

constexpr int64_t kHeightAxis = 3, kWidthAxis = 4;

// The first `extent` of `tile` along `axis` fade in from the last `extent` of `before`; a new tensor.
at::Tensor blend(const at::Tensor& before, const at::Tensor& tile, int64_t axis, int64_t extent) {
  extent = std::min({extent, before.size(axis), tile.size(axis)});
  if (extent == 0) return tile;
  // Weights are rounded from double precision, as those of the reference's scalars are.
  std::vector<float> fade_out, fade_in;
  for (int64_t i = 0; i < extent; ++i) {
    const double part = static_cast<double>(i) / static_cast<double>(extent);
    fade_out.push_back(static_cast<float>(1 - part));
    fade_in.push_back(static_cast<float>(part));
  }
  std::vector<int64_t> shape(tile.dim(), 1);
  shape[axis] = extent;
  const auto weights = [&](const std::vector<float>& values) {
    return at::tensor(values, at::kFloat).view(shape).to(tile.device());
  };
  const at::Tensor mixed = before.narrow(axis, before.size(axis) - extent, extent) * weights(fade_out) +
                           tile.narrow(axis, 0, extent) * weights(fade_in);
  return at::cat({mixed, tile.narrow(axis, extent, tile.size(axis) - extent)}, axis);
}

// How a coder sees a clip: sizes of tiles in what goes in, and how many of what comes out one of these makes.
struct Scale {
  int64_t tile, stride;  // of the input, in space
  int64_t out, in;       // `in` of the input's rows (columns) make `out` rows of the output
  int64_t to_output(int64_t size) const { return size * out / in; }
};

using Coder = std::function<at::Tensor(const at::Tensor&)>;

// One tile in time: all its tiles in space, coded one by one, blended and written to `out`. `blended`: neighbours enter
// the blend as they were blended themselves, else as they came from the coder.
void code_frames(const at::Tensor& in, const Coder& coder, const Scale& scale, bool blended, const at::Tensor& out) {
  const int64_t extent = scale.to_output(scale.tile - scale.stride);
  const auto rows = magi_tile_spans(in.size(kHeightAxis), scale.tile, scale.stride);
  const auto columns = magi_tile_spans(in.size(kWidthAxis), scale.tile, scale.stride);
  std::vector<at::Tensor> above;
  for (const MagiTileSpan& row : rows) {
    std::vector<at::Tensor> done;
    for (const MagiTileSpan& column : columns) {
      const size_t j = done.size();
      const at::Tensor raw =
          coder(in.narrow(kHeightAxis, row.begin, row.length).narrow(kWidthAxis, column.begin, column.length));
      at::Tensor tile = raw;
      if (!above.empty()) tile = blend(above[j], tile, kHeightAxis, extent);
      if (j > 0) tile = blend(done[j - 1], tile, kWidthAxis, extent);
      const int64_t height = scale.to_output(row.kept), width = scale.to_output(column.kept);
      out.narrow(kHeightAxis, scale.to_output(row.begin), height)
          .narrow(kWidthAxis, scale.to_output(column.begin), width)
          .copy_(tile.narrow(kHeightAxis, 0, height).narrow(kWidthAxis, 0, width));
      done.push_back(blended ? tile : raw);
    }
    above = std::move(done);
  }
}

void check_tiling(const MagiTiling& tiling) {
  if (tiling.size < 1 || tiling.frames < 1 || tiling.overlap < 0 || tiling.overlap >= tiling.size) {
    fail_usage(
        "the VAE's tiles have a size and frames of 1 or more and overlap by less than their size, these have {} "
        "latents, {} latent frames and an overlap of {}",
        tiling.size, tiling.frames, tiling.overlap);
  }
}

}  // namespace

MagiTiling MagiTiling::of(const MagiVaeConfig& config) {
  return {.size = config.grid(), .overlap = config.grid() / 4, .frames = 3};
}

std::vector<MagiTileSpan> magi_tile_spans(int64_t size, int64_t tile, int64_t stride) {
  std::vector<MagiTileSpan> spans;
  for (int64_t begin = 0; begin < size; begin += stride) {
    const int64_t length = std::min(tile, size - begin);
    spans.push_back({begin, length, std::min(stride, length)});
  }
  return spans;
}

at::Tensor encode_mean_tiled(const MagiVae& vae, const at::Tensor& video, const MagiTiling& tiling) {
  check_tiling(tiling);
  vae.check_video(video);
  const MagiVaeConfig& config = vae.config();
  const int64_t patch = config.patch_size, length = config.patch_length;
  const Scale scale{tiling.size * patch, (tiling.size - tiling.overlap) * patch, 1, patch};
  const int64_t frames = std::max<int64_t>(video.size(2) / length, 1);  // a still has one latent frame
  const at::Tensor out =
      at::empty({video.size(0), config.latent_channels, frames, video.size(3) / patch, video.size(4) / patch},
                at::TensorOptions().dtype(at::kFloat).device(vae.device()));
  const Coder coder = [&](const at::Tensor& tile) { return vae.encode_mean(tile); };
  for (int64_t begin = 0; begin < frames; begin += tiling.frames) {
    const int64_t count = std::min(tiling.frames, frames - begin);
    const at::Tensor in = video.narrow(2, begin * length, std::min(count * length, video.size(2)));
    code_frames(in, coder, scale, /*blended=*/true, out.narrow(2, begin, count));
  }
  return out;
}

at::Tensor encode_tiled(const MagiVae& vae, const at::Tensor& video, const MagiTiling& tiling) {
  return encode_mean_tiled(vae, video, tiling) * kMagiScaleFactor;
}

at::Tensor decode_mean_tiled(const MagiVae& vae, const at::Tensor& mean, const MagiTiling& tiling, MagiClip clip) {
  check_tiling(tiling);
  vae.check_latents(mean, clip);
  const MagiVaeConfig& config = vae.config();
  const int64_t patch = config.patch_size, all = mean.size(2);
  const Scale scale{tiling.size, tiling.size - tiling.overlap, patch, 1};
  const auto clip_of = [&](int64_t count) {
    const bool lone = vae.parity().lone_latent_still && count == 1;
    return lone || clip == MagiClip::still ? MagiClip::still : MagiClip::video;
  };
  const auto frames_of = [&](int64_t count) {
    return clip_of(count) == MagiClip::still ? 1 : count * config.patch_length;
  };
  int64_t frames = all / tiling.frames * frames_of(tiling.frames);
  if (all % tiling.frames != 0) frames += frames_of(all % tiling.frames);

  const at::Tensor out = at::empty({mean.size(0), config.channels, frames, mean.size(3) * patch, mean.size(4) * patch},
                                   at::TensorOptions().dtype(at::kFloat).device(vae.device()));
  int64_t written = 0;
  for (int64_t begin = 0; begin < all; begin += tiling.frames) {
    const int64_t count = std::min(tiling.frames, all - begin);
    const Coder coder = [&](const at::Tensor& tile) { return vae.decode_mean(tile, clip_of(count)); };
    code_frames(mean.narrow(2, begin, count), coder, scale, /*blended=*/false,
                out.narrow(2, written, frames_of(count)));
    written += frames_of(count);
  }
  return out;
}

at::Tensor decode_tiled(const MagiVae& vae, const at::Tensor& latents, const MagiTiling& tiling, MagiClip clip) {
  vae.check_latents(latents, clip);
  return decode_mean_tiled(vae, latents.to(at::kFloat) / kMagiScaleFactor, tiling, clip);
}

}  // namespace longtake
