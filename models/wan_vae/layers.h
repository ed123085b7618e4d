// The building blocks of the Wan VAE as functions over immutable weights. Nothing writes into its arguments, so
// autograd works through all of them; state between chunks of a stream lives in ConvHistory, which belongs to the run.
//
// Layers take their input by value and drop it as soon as they can: move into them what nobody needs afterwards.
//
// Tensors are [B, C, T, H, W], kept in channels-last memory (the faster layout for convolutions on both CPU and CUDA),
// in the weights' dtype; norms compute in float32. Source: skyreels_v2.md sections 5.2 and 5.4.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <variant>
#include <vector>

#include "models/wan_vae/sizes.h"

namespace longtake {

class WeightSource;

// The last input frames of every convolution over time, one slot each; an undefined slot means that nothing passed yet.
using ConvHistory = std::vector<at::Tensor>;

// One call of a coder. The first frame of a clip is special: resampling layers do not double or halve it.
struct VaePass {
  bool first = true;               // the input starts with the first frame of the clip
  ConvHistory* history = nullptr;  // read and written; null for a whole clip in one call
};

// Takes weights and hands out history slots while a coder is built.
struct VaeLoader {
  WeightSource& source;
  int slots = 0;
};

// x / max(|x|, 1e-12) * sqrt(C) * gamma over channels, then SiLU where asked, in float32; rounded to x's dtype at last. On CUDA in one pass
// (cuda/pixel_norm.cuh).
class VaeNorm {
 public:
  VaeNorm() = default;
  VaeNorm(VaeLoader& loader, const std::string& name, std::vector<int64_t> shape);
  at::Tensor operator()(const at::Tensor& x, bool silu) const;

  // Elsewhere inference in other dtypes than float32 works frame by frame, or on as many frames as hold about this many values,
  // so that the float32 intermediates stay small.
  static constexpr int64_t kGroupValues = int64_t{1} << 24;

 private:
  at::Tensor apply(const at::Tensor& x, bool silu) const;

  at::Tensor gamma_;
};

// Convolution, 3 frames by k x k: zero padding in space, the two frames before x in time (zeros before the clip).
class CausalConv {
 public:
  CausalConv() = default;
  CausalConv(VaeLoader& loader, const std::string& name, int64_t in, int64_t out, int64_t kernel);
  at::Tensor operator()(at::Tensor x, const VaePass& pass) const;

 private:
  at::Tensor weight_, bias_;
  int64_t padding_ = 0;
  int slot_ = 0;
};

// 1x1x1 convolution.
class PointConv {
 public:
  PointConv() = default;
  PointConv(VaeLoader& loader, const std::string& name, int64_t in, int64_t out);
  at::Tensor operator()(const at::Tensor& x) const;
  const at::Tensor& weight() const { return weight_; }

 private:
  at::Tensor weight_, bias_;
};

class ResidualBlock {
 public:
  ResidualBlock() = default;
  ResidualBlock(VaeLoader& loader, const std::string& name, int64_t in, int64_t out);
  at::Tensor operator()(at::Tensor x, const VaePass& pass) const;

 private:
  VaeNorm norm1_, norm2_;
  CausalConv conv1_, conv2_;
  PointConv shortcut_;
};

// Each frame attends to itself: one head as wide as the channels.
class FrameAttention {
 public:
  FrameAttention() = default;
  FrameAttention(VaeLoader& loader, const std::string& name, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  VaeNorm norm_;
  at::Tensor qkv_weight_, qkv_bias_, proj_weight_, proj_bias_;
};

// Halves H and W; with a time convolution also turns every two frames but the clip's first into one.
class Downsample {
 public:
  Downsample(VaeLoader& loader, const std::string& name, const VaeLayer& layer);
  at::Tensor operator()(at::Tensor x, const VaePass& pass) const;

 private:
  at::Tensor weight_, bias_, time_weight_, time_bias_;
  int slot_ = 0;
};

// Doubles H and W; with a time convolution also turns every frame but the clip's first into two.
class Upsample {
 public:
  Upsample(VaeLoader& loader, const std::string& name, const VaeLayer& layer);
  at::Tensor operator()(at::Tensor x, const VaePass& pass) const;

 private:
  at::Tensor double_frames(at::Tensor x, const VaePass& pass) const;

  at::Tensor weight_, bias_;
  bool temporal_ = false;
  CausalConv time_conv_;
};

// Encoder or decoder.
class VaeCoder {
 public:
  enum class Kind { encoder, decoder };
  VaeCoder(WeightSource& source, const VaeCoderSizes& sizes, Kind kind);

  at::Tensor operator()(at::Tensor x, const VaePass& pass) const;
  ConvHistory new_history() const { return ConvHistory(slots_); }

 private:
  Kind kind_;
  CausalConv conv1_;
  std::vector<std::variant<ResidualBlock, Downsample, Upsample>> layers_;
  ResidualBlock middle0_, middle2_;
  FrameAttention middle1_;
  VaeNorm head_norm_;
  CausalConv head_;
  int slots_ = 0;
};

}  // namespace longtake
