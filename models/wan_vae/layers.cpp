#include "models/wan_vae/layers.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zero.h>

#include "base/cuda.h"
#include "base/error.h"
#include "models/ops/convolve.h"
#include "models/wan_vae/cuda/pixel_norm.cuh"
#include "models/weights/source.h"

namespace longtake {
namespace {

// In place where nobody needs the old value, so that inference holds one full-size tensor less.
bool needs_grad(const at::Tensor& x) { return at::GradMode::is_enabled() && x.requires_grad(); }

// [B, C, T, H, W] <-> [B*T, C, H, W]; no copy in channels-last memory.
at::Tensor fold_frames(const at::Tensor& x) {
  return x.permute({0, 2, 1, 3, 4}).reshape({x.size(0) * x.size(2), x.size(1), x.size(3), x.size(4)});
}

// (Through channels that are innermost: reshaping x as it is gives one frame strides that do not count as channels-last,
// and a concatenation with its history, as all that follows it, would lose the format.)
at::Tensor unfold_frames(const at::Tensor& x, int64_t batch) {
  return x.permute({0, 2, 3, 1})
      .reshape({batch, x.size(0) / batch, x.size(2), x.size(3), x.size(1)})
      .permute({0, 4, 1, 2, 3});
}

// The norm through our kernel; undefined where it does not run.
at::Tensor norm_in_one_pass(const at::Tensor& x, const at::Tensor& gamma, bool silu) {
  const auto aligned = [](const at::Tensor& t) { return reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0; };
  if (!cuda::runs_kernels(x) || x.dim() != 5 || !cuda::pixel_norm_fits(x.size(1)) || !x.is_contiguous(at::MemoryFormat::ChannelsLast3d) || !aligned(x) ||
      !aligned(gamma))
    return {};
  at::Tensor out = at::empty_like(x, at::MemoryFormat::ChannelsLast3d);
  cuda::PixelNorm p;
  p.pixels = x.numel() / x.size(1), p.channels = x.size(1);
  p.type = cuda::float_type(x);
  p.x = x.const_data_ptr();
  p.gamma = gamma.const_data_ptr<float>();
  p.silu = silu;
  p.out = out.data_ptr();
  const cuda::Launch launch(x, "pixel_norm");
  launch.check(cuda::pixel_norm(p, launch.stream()));
  return out;
}

// A copy of the last frames: a view would keep the whole chunk alive until the next one.
at::Tensor last_frames(const at::Tensor& x, int64_t count) { return x.narrow(2, x.size(2) - count, count).clone(); }

}  // namespace

VaeNorm::VaeNorm(VaeLoader& loader, const std::string& name, std::vector<int64_t> shape) {
  gamma_ = loader.source.take(name, shape).view({shape[0], 1, 1, 1});
}

at::Tensor VaeNorm::operator()(const at::Tensor& x, bool silu) const {
  const bool inference = !needs_grad(x) && !needs_grad(gamma_);
  if (inference)
    if (at::Tensor y = norm_in_one_pass(x, gamma_.to(at::kFloat), silu); y.defined()) return y;
  if (x.scalar_type() == at::kFloat || !inference) return apply(x, silu).to(x.scalar_type());
  const int64_t frames = x.size(2);
  const int64_t group = std::max<int64_t>(1, kGroupValues * frames / std::max<int64_t>(1, x.numel()));
  at::Tensor y = at::empty_like(x);
  for (int64_t t = 0; t < frames; t += group) {
    const int64_t count = std::min(group, frames - t);
    y.narrow(2, t, count).copy_(apply(x.narrow(2, t, count), silu));
  }
  return y;
}

at::Tensor VaeNorm::apply(const at::Tensor& x, bool silu) const {
  const at::Tensor norm = at::linalg_vector_norm(x, 2, at::IntArrayRef{1}, /*keepdim=*/true, at::kFloat);
  const at::Tensor scale = std::sqrt(static_cast<double>(x.size(1))) / norm.clamp_min(1e-12);
  const at::Tensor gamma = gamma_.to(at::kFloat);
  at::Tensor y = x * scale;
  if (needs_grad(y) || needs_grad(gamma)) {
    y = y * gamma;
    return silu ? at::silu(y) : y;
  }
  y.mul_(gamma);
  if (silu) at::silu_(y);
  return y;
}

CausalConv::CausalConv(VaeLoader& loader, const std::string& name, int64_t in, int64_t out, int64_t kernel)
    : padding_(kernel / 2), slot_(loader.slots++) {
  weight_ = loader.source.take(name + ".weight", {out, in, 3, kernel, kernel});
  bias_ = loader.source.take(name + ".bias", {out});
}

at::Tensor CausalConv::operator()(at::Tensor x, const VaePass& pass) const {
  at::Tensor before;
  if (pass.history) before = std::move((*pass.history)[slot_]);
  if (!before.defined()) {
    // (at::zeros ignores the memory format, and concatenation would then lose x's.)
    before = at::empty({x.size(0), x.size(1), 2, x.size(3), x.size(4)}, x.options(), at::MemoryFormat::ChannelsLast3d);
    before.zero_();
  }
  x = at::cat({std::exchange(before, {}), x}, 2);
  if (pass.history) (*pass.history)[slot_] = last_frames(x, 2);
  return convolve(x, weight_, bias_, /*stride=*/{1, 1, 1}, /*padding=*/{0, padding_, padding_});
}

PointConv::PointConv(VaeLoader& loader, const std::string& name, int64_t in, int64_t out) {
  weight_ = loader.source.take(name + ".weight", {out, in, 1, 1, 1});
  bias_ = loader.source.take(name + ".bias", {out});
}

at::Tensor PointConv::operator()(const at::Tensor& x) const {
  // A matrix product over channels, which are innermost in memory.
  return at::linear(x.permute({0, 2, 3, 4, 1}), weight_.flatten(1), bias_).permute({0, 4, 1, 2, 3});
}

ResidualBlock::ResidualBlock(VaeLoader& loader, const std::string& name, int64_t in, int64_t out)
    : norm1_(loader, name + ".residual.0.gamma", {in, 1, 1, 1}),
      norm2_(loader, name + ".residual.3.gamma", {out, 1, 1, 1}) {
  conv1_ = CausalConv(loader, name + ".residual.2", in, out, 3);
  conv2_ = CausalConv(loader, name + ".residual.6", out, out, 3);
  if (in != out) shortcut_ = PointConv(loader, name + ".shortcut", in, out);
}

at::Tensor ResidualBlock::operator()(at::Tensor x, const VaePass& pass) const {
  at::Tensor y = conv1_(norm1_(x, true), pass);
  y = norm2_(y, true);
  if (shortcut_.weight().defined()) x = shortcut_(x);
  y = conv2_(std::move(y), pass);
  if (needs_grad(y) || needs_grad(x)) return y + x;
  return y.add_(x);
}

FrameAttention::FrameAttention(VaeLoader& loader, const std::string& name, int64_t channels)
    : norm_(loader, name + ".norm.gamma", {channels, 1, 1}) {
  qkv_weight_ = loader.source.take(name + ".to_qkv.weight", {3 * channels, channels, 1, 1});
  qkv_bias_ = loader.source.take(name + ".to_qkv.bias", {3 * channels});
  proj_weight_ = loader.source.take(name + ".proj.weight", {channels, channels, 1, 1});
  proj_bias_ = loader.source.take(name + ".proj.bias", {channels});
}

at::Tensor FrameAttention::operator()(const at::Tensor& x) const {
  const int64_t batch = x.size(0), channels = x.size(1), frames = x.size(2), height = x.size(3), width = x.size(4);
  // [B*T, 1 head, H*W, C]
  const at::Tensor tokens =
      norm_(x, false).permute({0, 2, 3, 4, 1}).reshape({batch * frames, 1, height * width, channels});
  const std::vector<at::Tensor> qkv = at::linear(tokens, qkv_weight_.flatten(1), qkv_bias_).chunk(3, -1);
  at::Tensor y = at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2]);
  y = at::linear(y, proj_weight_.flatten(1), proj_bias_);
  return x + y.view({batch, frames, height, width, channels}).permute({0, 4, 1, 2, 3});
}

Downsample::Downsample(VaeLoader& loader, const std::string& name, const VaeLayer& layer) {
  weight_ = loader.source.take(name + ".resample.1.weight", {layer.out, layer.in, 3, 3});
  bias_ = loader.source.take(name + ".resample.1.bias", {layer.out});
  if (layer.temporal) {
    time_weight_ = loader.source.take(name + ".time_conv.weight", {layer.out, layer.out, 3, 1, 1});
    time_bias_ = loader.source.take(name + ".time_conv.bias", {layer.out});
    slot_ = loader.slots++;
  }
}

at::Tensor Downsample::operator()(at::Tensor x, const VaePass& pass) const {
  const int64_t batch = x.size(0);
  // The extra row and column lie on the right and at the bottom only.
  x = at::constant_pad_nd(fold_frames(x), {0, 1, 0, 1});
  x = unfold_frames(at::conv2d(x, weight_, bias_, /*stride=*/2), batch);
  if (!time_weight_.defined()) return x;

  // The clip's first frame passes as it is, and is the history of what follows.
  at::Tensor head, frames = x;
  if (pass.first) {
    head = x.narrow(2, 0, 1);
  } else {
    frames = at::cat({(*pass.history)[slot_], x}, 2);
  }
  if (pass.history) (*pass.history)[slot_] = last_frames(x, 1);
  if (frames.size(2) == 1) return head;
  const at::Tensor halved = convolve(frames, time_weight_, time_bias_, /*stride=*/{2, 1, 1}, /*padding=*/{0, 0, 0});
  return head.defined() ? at::cat({head, halved}, 2) : halved;
}

Upsample::Upsample(VaeLoader& loader, const std::string& name, const VaeLayer& layer) : temporal_(layer.temporal) {
  if (temporal_) time_conv_ = CausalConv(loader, name + ".time_conv", layer.in, 2 * layer.in, 1);
  weight_ = loader.source.take(name + ".resample.1.weight", {layer.out, layer.in, 3, 3});
  bias_ = loader.source.take(name + ".resample.1.bias", {layer.out});
}

at::Tensor Upsample::double_frames(at::Tensor x, const VaePass& pass) const {
  // [B, 2C, T, H, W] -> [B, C, 2T, H, W]: frame 2i is the first half of frame i's channels, frame 2i+1 the second.
  const int64_t batch = x.size(0), channels = x.size(1), frames = x.size(2), height = x.size(3), width = x.size(4);
  return time_conv_(std::move(x), pass)
      .permute({0, 2, 3, 4, 1})
      .reshape({batch, frames, height, width, 2, channels})
      .permute({0, 1, 4, 2, 3, 5})
      .reshape({batch, 2 * frames, height, width, channels})
      .contiguous()  // for one frame the reshape is a view
      .permute({0, 4, 1, 2, 3});
}

at::Tensor Upsample::operator()(at::Tensor x, const VaePass& pass) const {
  const int64_t batch = x.size(0);
  if (temporal_) {
    if (!pass.first) {
      x = double_frames(std::move(x), pass);
    } else if (x.size(2) > 1) {
      // The clip's first frame is neither doubled nor history: the second one sees zeros before it.
      x = at::cat({x.narrow(2, 0, 1), double_frames(x.narrow(2, 1, x.size(2) - 1), pass)}, 2);
    }
  }
  // Nearest neighbour as one copy of an expanded view: at::upsample_nearest2d goes through two more in this layout.
  const int64_t channels = x.size(1), height = x.size(3), width = x.size(4);
  x = fold_frames(x).permute({0, 2, 3, 1}).view({-1, height, 1, width, 1, channels});
  x = x.expand({-1, height, 2, width, 2, channels})
          .reshape({-1, 2 * height, 2 * width, channels})
          .permute({0, 3, 1, 2});
  return unfold_frames(at::conv2d(x, weight_, bias_, /*stride=*/1, /*padding=*/1), batch);
}

VaeCoder::VaeCoder(WeightSource& source, const VaeCoderSizes& sizes, Kind kind) : kind_(kind) {
  VaeLoader loader{source};
  const std::string name = kind == Kind::encoder ? "encoder" : "decoder";
  const std::string stages = name + (kind == Kind::encoder ? ".downsamples" : ".upsamples");
  conv1_ = CausalConv(loader, name + ".conv1", sizes.input, sizes.base, 3);
  for (size_t i = 0; i < sizes.layers.size(); ++i) {
    const VaeLayer& layer = sizes.layers[i];
    const std::string prefix = fmt::format("{}.{}", stages, i);
    switch (layer.kind) {
      case VaeLayer::Kind::residual:
        layers_.push_back(ResidualBlock(loader, prefix, layer.in, layer.out));
        break;
      case VaeLayer::Kind::downsample:
        layers_.push_back(Downsample(loader, prefix, layer));
        break;
      case VaeLayer::Kind::upsample:
        layers_.push_back(Upsample(loader, prefix, layer));
        break;
    }
  }
  middle0_ = ResidualBlock(loader, name + ".middle.0", sizes.middle, sizes.middle);
  middle1_ = FrameAttention(loader, name + ".middle.1", sizes.middle);
  middle2_ = ResidualBlock(loader, name + ".middle.2", sizes.middle, sizes.middle);
  head_norm_ = VaeNorm(loader, name + ".head.0.gamma", {sizes.head, 1, 1, 1});
  head_ = CausalConv(loader, name + ".head.2", sizes.head, sizes.output, 3);
  slots_ = loader.slots;
}

at::Tensor VaeCoder::operator()(at::Tensor x, const VaePass& pass) const {
  const auto middle = [&] { x = middle2_(middle1_(middle0_(std::move(x), pass)), pass); };
  x = x.contiguous(at::MemoryFormat::ChannelsLast3d);
  x = conv1_(std::move(x), pass);
  if (kind_ == Kind::decoder) middle();
  for (const auto& layer : layers_) {
    x = std::visit([&](const auto& block) { return block(std::move(x), pass); }, layer);
  }
  if (kind_ == Kind::encoder) middle();
  x = head_norm_(x, true);
  return head_(std::move(x), pass);
}

}  // namespace longtake
