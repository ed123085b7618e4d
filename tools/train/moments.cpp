#include "tools/train/moments.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_inv.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "models/demo/clips.h"
#include "models/wan_vae/latent_stats.h"
#include "models/weights/checkpoint.h"

namespace longtake::train {
namespace {

constexpr int kFeatures = 30;
constexpr float kAnchor = 100;   // constants that dominate the final norm
constexpr int kAnchors = 4;

// A feature: the coefficient of P_x(x) P_y(y) P_t(t), Legendre polynomials over the block, of one colour plane.
struct Moment {
  int plane, x, y, t;
  bool operator==(const Moment&) const = default;
};
using Moments = std::vector<Moment>;

// The moments that each level of the pyramid carries. A channel keeps its place through a time convolution, because the clip's first
// frame passes by it: there, channels that a level only gains in time are zero.
const Moments kPixels = {{0, 0, 0, 0}, {1, 0, 0, 0}, {2, 0, 0, 0}};
const Moments kBlocks2 = {{0, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {1, 0, 0, 0}, {2, 0, 0, 0}};
const Moments kBlocks4 = {{0, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 2, 0, 0}, {0, 1, 1, 0}, {0, 0, 2, 0},
                          {1, 0, 0, 0}, {1, 1, 0, 0}, {1, 0, 1, 0}, {2, 0, 0, 0}, {2, 1, 0, 0}, {2, 0, 1, 0},
                          {0, 0, 0, 1}, {1, 0, 0, 1}, {2, 0, 0, 1}};

Moments blocks8() {
  Moments list;
  for (int plane = 0; plane < 3; ++plane)
    for (const auto& [x, y] : {std::pair{0, 0}, {1, 0}, {0, 1}, {2, 0}, {1, 1}, {0, 2}}) list.push_back({plane, x, y, 0});
  for (int plane = 0; plane < 3; ++plane)
    for (const auto& [x, y] : {std::pair{0, 0}, {1, 0}, {0, 1}}) list.push_back({plane, x, y, 1});
  for (int plane = 0; plane < 3; ++plane) list.push_back({plane, 0, 0, 2});
  return list;
}
const Moments kBlocks8 = blocks8();

double legendre(int degree, double x) { return degree == 0 ? 1 : degree == 1 ? x : (3 * x * x - 1) / 2; }

// Coefficient of P_coarse over [-1, 1] of a function that is P_fine over one half (0: left, 1: right) and zero elsewhere.
double refine(int coarse, int fine, int half) {
  constexpr int steps = 64;  // midpoint rule; errors of 1e-4 do not matter, every user takes the same numbers
  double sum = 0;
  for (int i = 0; i < steps; ++i) {
    const double u = 2 * (i + 0.5) / steps - 1;
    sum += legendre(fine, u) * legendre(coarse, (u + (half == 0 ? -1 : 1)) / 2) / steps / 2;
  }
  return sum * (2 * coarse + 1);
}

// [coarse, fine, 2, 2]: from the four blocks of the level below.
at::Tensor space_weights(const Moments& coarse, const Moments& fine) {
  at::Tensor w = at::zeros({static_cast<int64_t>(coarse.size()), static_cast<int64_t>(fine.size()), 2, 2});
  auto a = w.accessor<float, 4>();
  for (size_t i = 0; i < coarse.size(); ++i)
    for (size_t j = 0; j < fine.size(); ++j)
      for (int dy = 0; dy < 2; ++dy)
        for (int dx = 0; dx < 2; ++dx)
          if (coarse[i].plane == fine[j].plane && coarse[i].t == fine[j].t)
            a[i][j][dy][dx] = static_cast<float>(refine(coarse[i].x, fine[j].x, dx) * refine(coarse[i].y, fine[j].y, dy));
  return w;
}

// [coarse, fine, 2]: from the two halves in time.
at::Tensor time_weights(const Moments& coarse, const Moments& fine) {
  at::Tensor w = at::zeros({static_cast<int64_t>(coarse.size()), static_cast<int64_t>(fine.size()), 2});
  auto a = w.accessor<float, 3>();
  for (size_t i = 0; i < coarse.size(); ++i)
    for (size_t j = 0; j < fine.size(); ++j)
      for (int dt = 0; dt < 2; ++dt)
        if (coarse[i].plane == fine[j].plane && coarse[i].x == fine[j].x && coarse[i].y == fine[j].y)
          a[i][j][dt] = static_cast<float>(refine(coarse[i].t, fine[j].t, dt));
  return w;
}

// Without time: what the clip's first frame has.
Moments still(const Moments& moments) {
  Moments out;
  for (const Moment& m : moments)
    if (m.t == 0) out.push_back(m);
  return out;
}

struct Stages {
  at::Tensor colour, down2, down4, time2, down8, time4;
};

const Stages& stages() {
  static const Stages s = [] {
    const float rgb[] = {0.299f, 0.587f, 0.114f, -0.299f, -0.587f, 0.886f, 0.701f, -0.587f, -0.114f};  // Y, B-Y, R-Y
    Stages out;
    out.colour = at::from_blob(const_cast<float*>(rgb), {3, 3}).clone();
    out.down2 = space_weights(kBlocks2, kPixels);
    out.down4 = space_weights(still(kBlocks4), kBlocks2);
    out.time2 = time_weights(kBlocks4, still(kBlocks4));
    Moments before;  // the 27 moments before time is halved again
    for (const Moment& m : kBlocks8)
      if (m.t < 2) before.push_back(m);
    out.down8 = space_weights(before, kBlocks4);
    out.time4 = time_weights(kBlocks8, before);
    return out;
  }();
  return s;
}

at::Tensor halve_space(const at::Tensor& x, const at::Tensor& weight) { return at::conv2d(x, weight, {}, 2); }

// x [groups * 2, C, h, w] -> [groups, C', h, w].
at::Tensor halve_time(const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor pairs = x.view({x.size(0) / 2, 2, x.size(1), x.size(2), x.size(3)});
  const auto half = [&](int64_t i) {
    return at::conv2d(pairs.select(1, i), weight.select(2, i).unsqueeze(-1).unsqueeze(-1));
  };
  return half(0) + half(1);
}

// A block's pixels [n, 3, frames, 8, 8], frames 1 or 4, to its 30 moments [n, 30].
at::Tensor moments_of(const at::Tensor& blocks) {
  const Stages& s = stages();
  const int64_t n = blocks.size(0), frames = blocks.size(2);
  at::Tensor x = blocks.permute({0, 2, 1, 3, 4}).reshape({n * frames, 3, 8, 8});
  x = at::conv2d(x, s.colour.unsqueeze(-1).unsqueeze(-1));
  x = halve_space(halve_space(x, s.down2), s.down4);
  if (frames == 4) return halve_time(halve_space(halve_time(x, s.time2), s.down8), s.time4).view({n, kFeatures});
  const auto padded = [](const at::Tensor& y, int64_t channels) {
    return at::cat({y, at::zeros({y.size(0), channels - y.size(1), y.size(2), y.size(3)})}, 1);
  };
  x = halve_space(padded(x, static_cast<int64_t>(kBlocks4.size())), s.down8);
  return padded(x, kFeatures).view({n, kFeatures});
}

// video [B, 3, T, H, W] to its blocks' pixels [B, T/frames, H/8, W/8, 3*frames*64].
at::Tensor block_pixels(const at::Tensor& video, int64_t frames) {
  const int64_t B = video.size(0), T = video.size(2), H = video.size(3), W = video.size(4);
  return video.reshape({B, 3, T / frames, frames, H / 8, 8, W / 8, 8})
      .permute({0, 2, 4, 6, 1, 3, 5, 7})
      .reshape({B, T / frames, H / 8, W / 8, 3 * frames * 64});
}

}  // namespace

VaeSizes demo_vae_sizes() { return make_vae_sizes(8, {1, 2, 4, 8}, 1, {false, true, true}); }

MomentEncoder::MomentEncoder(uint64_t seed) {
  // Blocks near the subject say what has to be told apart; the still background would outvote them.
  demo::Random random(seed);
  std::vector<at::Tensor> rows;
  for (int i = 0; i < 400; ++i) {
    const demo::Clip clip(demo::random_training_scene(random), demo::Start::beginning, random.next());
    const int first = 1 + 4 * random.below(20);  // a block of four frames
    const at::Tensor all = block_pixels(clip.frames(first, 4).unsqueeze(0), 4).view({16, 16, -1});
    const auto [x, y] = clip.position(first + 2);
    const int64_t bx = std::clamp<int64_t>(static_cast<int64_t>(x / 8) - 4, 0, 8), by = std::clamp<int64_t>(static_cast<int64_t>(y / 8) - 4, 0, 8);
    rows.push_back(all.narrow(0, by, 8).narrow(1, bx, 8).reshape({64, 3, 4, 8, 8}));
  }
  const at::Tensor features = moments_of(at::cat(rows));
  const at::Tensor mean = at::mean(features, 0);
  const at::Tensor centred = (features - mean).to(at::kDouble);
  const auto [values, vectors] = at::linalg_eigh(at::matmul(centred.t(), centred) / static_cast<double>(centred.size(0)));
  // Largest first. Components keep a part of their natural order of size (power 1/4 instead of full whitening), so that
  // noise hides details before it hides colours; the largest has a deviation of one.
  const at::Tensor top = vectors.flip(1).narrow(1, 0, kLatentChannels).t();
  const at::Tensor variance = values.flip(0).narrow(0, 0, kLatentChannels).clamp_min(1e-8);
  const at::Tensor deviation = variance.sqrt();
  const at::Tensor target = (deviation / deviation.max()).sqrt().clamp_min(0.4);
  build(mean, (top * (target / deviation).unsqueeze(1)).to(at::kFloat));
}

MomentEncoder::MomentEncoder(const std::map<std::string, at::Tensor>& state) { build(state.at("mean"), state.at("components")); }

MomentEncoder MomentEncoder::of(WeightSource& vae) {
  const std::string name = "encoder.head.2.weight";
  const std::vector<int64_t> shape = vae.shape(name);
  if (shape != std::vector<int64_t>{2 * kLatentChannels, 64, 3, 3, 3})
    fail_file("{} has shape {}: this is not the demo model's VAE", name, shape_text(shape));
  const at::Tensor head = vae.take(name, shape).select(4, 1).select(3, 1).select(2, 2).narrow(0, 0, kLatentChannels);
  const at::Tensor components = head.narrow(1, 0, kFeatures), pairs = head.narrow(1, kFeatures, kFeatures);
  if (!components.equal(-pairs)) fail_file("{}: features do not come in pairs, so this encoder was not constructed", name);
  const at::Tensor offset = -vae.take("encoder.head.2.bias", {2 * kLatentChannels}).narrow(0, 0, kLatentChannels);
  // Any mean with this offset will do: the shortest.
  const at::Tensor mean = at::matmul(components.t(), at::matmul(at::linalg_inv(at::matmul(components, components.t())), offset));
  return MomentEncoder({{"mean", mean}, {"components", components}});
}

std::map<std::string, at::Tensor> MomentEncoder::state() const { return {{"mean", mean_}, {"components", components_}}; }

void MomentEncoder::build(const at::Tensor& mean, const at::Tensor& components) {
  mean_ = mean.contiguous(), components_ = components.contiguous();
  const auto matrix = [&](int64_t frames) {
    const int64_t pixels = 3 * frames * 64;
    const at::Tensor unit = at::eye(pixels).view({pixels, 3, frames, 8, 8});
    return at::matmul(components_, moments_of(unit).t()).contiguous();
  };
  first_ = matrix(1), later_ = matrix(4);
  offset_ = at::matmul(components_, mean_);
}

at::Tensor MomentEncoder::encode(const at::Tensor& video, bool first_block) const {
  const int64_t T = video.size(2);
  LONGTAKE_CHECK(T % 4 == (first_block ? 1 : 0), "expected {} frames, found {}", first_block ? "1 + 4k" : "4k", T);
  std::vector<at::Tensor> latents;
  if (first_block) latents.push_back(at::matmul(block_pixels(video.narrow(2, 0, 1), 1), first_.t()));
  const int64_t skip = first_block ? 1 : 0;
  if (T > skip) latents.push_back(at::matmul(block_pixels(video.narrow(2, skip, T - skip), 4), later_.t()));
  return (at::cat(latents, 1) - offset_).permute({0, 4, 1, 2, 3}).contiguous();
}

void MomentEncoder::install(std::map<std::string, at::Tensor>& parameters) const {
  const Stages& s = stages();
  for (auto& [name, tensor] : parameters)
    if (name.starts_with("encoder.") && !name.ends_with(".gamma")) tensor.zero_();
  const auto at = [&](const std::string& name) {
    const auto it = parameters.find(name);
    LONGTAKE_CHECK(it != parameters.end(), "the VAE has no {}", name);
    return it->second;
  };
  // Puts a small matrix into the corner of a larger one, at one tap of a kernel.
  const auto set = [](at::Tensor target, const at::Tensor& value) {
    target.narrow(0, 0, value.size(0)).narrow(1, 0, value.size(1)).copy_(value);
  };
  const auto carry = [&](const std::string& name, int64_t channels) { set(at(name).flatten(1), at::eye(channels)); };
  set(at("encoder.conv1.weight").select(4, 1).select(3, 1).select(2, 2), s.colour);
  const auto down = [&](const std::string& name, const at::Tensor& weight) {
    for (int y = 0; y < 2; ++y)
      for (int x = 0; x < 2; ++x) set(at(name).select(3, x).select(2, y), weight.select(3, x).select(2, y));
  };
  const auto halve = [&](const std::string& name, const at::Tensor& weight) {
    for (int t = 0; t < 2; ++t) set(at(name).select(4, 0).select(3, 0).select(2, 1 + t), weight.select(2, t));
  };
  // Layers: 0 R, 1 down, 2 R, 3 down and time, 4 R, 5 down and time, 6 R.
  down("encoder.downsamples.1.resample.1.weight", s.down2);
  carry("encoder.downsamples.2.shortcut.weight", static_cast<int64_t>(kBlocks2.size()));
  down("encoder.downsamples.3.resample.1.weight", s.down4);
  halve("encoder.downsamples.3.time_conv.weight", s.time2);
  carry("encoder.downsamples.4.shortcut.weight", static_cast<int64_t>(kBlocks4.size()));
  down("encoder.downsamples.5.resample.1.weight", s.down8);
  halve("encoder.downsamples.5.time_conv.weight", s.time4);
  // Pairs (x, -x), then the anchors.
  at::Tensor split = at("encoder.downsamples.6.shortcut.weight").flatten(1);
  set(split, at::eye(kFeatures));
  set(split.narrow(0, kFeatures, kFeatures), -at::eye(kFeatures));
  at("encoder.downsamples.6.shortcut.bias").narrow(0, 2 * kFeatures, kAnchors).fill_(kAnchor);
  // norm = kAnchor * sqrt(kAnchors); this gain makes the normalised features equal to the features.
  at("encoder.head.0.gamma").fill_(kAnchor * std::sqrt(static_cast<float>(kAnchors)) / std::sqrt(64.0f));
  at::Tensor head = at("encoder.head.2.weight").select(4, 1).select(3, 1).select(2, 2);
  set(head, components_);
  set(head.narrow(1, kFeatures, kFeatures), -components_);
  at("encoder.head.2.bias").narrow(0, 0, kLatentChannels).copy_(-offset_);
  at("encoder.head.2.bias").narrow(0, kLatentChannels, kLatentChannels).fill_(-10);  // log variance

  // Wan's fixed normalisation must give these latents: conv1 applies its inverse.
  const at::Tensor wan_mean = at::from_blob(const_cast<float*>(kWanLatentMean.data()), {kLatentChannels}).clone();
  const at::Tensor wan_deviation = at::from_blob(const_cast<float*>(kWanLatentDeviation.data()), {kLatentChannels}).clone();
  at::Tensor out = at("conv1.weight").flatten(1);
  out.zero_();
  out.diagonal().narrow(0, 0, kLatentChannels).copy_(wan_deviation);
  out.diagonal().narrow(0, kLatentChannels, kLatentChannels).fill_(1);
  at("conv1.bias").zero_().narrow(0, 0, kLatentChannels).copy_(wan_mean);
  at::Tensor in = at("conv2.weight").flatten(1);
  in.zero_().diagonal().copy_(1 / wan_deviation);
  at("conv2.bias").copy_(-wan_mean / wan_deviation);
}

}  // namespace longtake::train
