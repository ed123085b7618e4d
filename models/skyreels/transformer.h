// The SkyReels-V2 / Wan 2.1 diffusion transformer: its weights and the pure functions over them.
//
// Spec: skyreels_v2.md section 2 (pseudo-code 2.2, precision map 2.4). Tokens are packed [tokens, dim], frame-major, then
// rows, then columns; several clips or chunks may stand behind one another. How a block attends is the caller's choice
// (K/V cache at inference, batched attention in training): it passes two functions. Nothing here writes in place, so
// autograd runs through the same code.
//
// Precision: weights and matrix products in the weights' dtype; norms, modulation, the residual stream inside a block, the
// time embedding and the head in float32; the residual stream is rounded to the weights' dtype at the end of a block.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/ops/block_stream.h"
#include "models/ops/norm.h"
#include "models/skyreels/time_embedding.h"
#include "models/weights/source.h"
#include "quant/linear.h"

namespace longtake::skyreels {

struct TransformerConfig {
  int64_t dim = 0, ffn_dim = 0, layers = 0, heads = 0;
  int64_t in_channels = 0, out_channels = 0;
  int64_t text_dim = 0, freq_dim = 0;
  bool fps_embedding = false;
  double eps = 1e-6;

  int64_t head_width() const { return dim / heads; }
  static constexpr int64_t patch = 2;  // spatial patch edge; the temporal one is 1

  // Sizes from the tensors. heads = 0 takes the family's head width of 128.
  static TransformerConfig from(const WeightSource& source, int64_t heads = 0);
};

// A weight [out, in] and its bias under `name`.
Linear take_linear(WeightSource& source, const std::string& name, int64_t out, int64_t in);

// q, k, v [tokens, heads, head_width] in the weights' dtype, q and k normalised and rotated -> [tokens, heads, head_width].
using SelfAttention = std::function<at::Tensor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v)>;
// q [tokens, heads, head_width] -> attention over the text, [tokens, heads, head_width].
using CrossAttention = std::function<at::Tensor(const at::Tensor& q)>;

class Transformer {
 public:
  struct Attention {
    Linear q, k, v, o;
    at::Tensor norm_q, norm_k;  // [dim]
  };
  struct Block {
    at::Tensor modulation;  // [1, 6, dim]
    Attention self, cross;
    at::Tensor norm3_weight, norm3_bias;
    Linear ffn_in, ffn_out;
    // Only where merged:
    Linear self_qkv{};                                // [3 dim, dim], the memory that self.q, .k and .v are parts of
    at::Tensor norm3_weight_f32{}, norm3_bias_f32{};  // [dim] float32
  };

  Transformer(WeightSource& source, const TransformerConfig& config);

  // Brings the weights into the form that FusedRow takes, and the head to the fused norm; `block` works as before. Not while
  // they are being trained: the projections' weights become parts of new tensors, and the fused norm knows no autograd.
  void merge_projections();
  bool merged() const { return modulations_.defined(); }

  // The large products of all blocks but the first and the last in e4m3 (quant/fp8.h); embeddings, modulation, norms, the head, and text keys
  // and values, which are computed once a prompt, stay as they are. Weights must be bfloat16, and are let go one by one. Returns
  // how many layers stayed because Linear::to_fp8 refused them. Behind merge_projections where both are wanted.
  int64_t to_fp8();

  // Behind the constructor, with weights on the CPU: everything but the blocks goes to `device`, and each block passes by there to be
  // merged and brought to fp8 as above, and then stays in host memory. From now on a block's weights may be computed with between
  // enter(layer) and leave(layer) alone, on the device's current stream and by one thread. Returns what to_fp8 returns.
  int64_t offload(const at::Device& device, bool merge, bool fp8);
  bool offloaded() const { return store_ != nullptr; }

  // The layer's weights are in use while it lives; nothing to do where they are not offloaded.
  struct InUse : BlockInUse {
    InUse(const Transformer& transformer, int64_t layer) : BlockInUse(transformer.stream_.get(), layer) {}
  };

  const TransformerConfig& config() const { return config_; }
  const Block& layer(int64_t layer) const { return blocks_.at(layer); }
  const at::Tensor& modulations() const { return modulations_; }  // [layers, 6, dim] float32 of all blocks, where merged
  at::ScalarType dtype() const { return patch_.weight.scalar_type(); }
  at::Device device() const { return patch_.weight.device(); }

  // latents [C, F, h, w] or [B, C, F, h, w] -> [B*F*(h/2)*(w/2), dim] in the weights' dtype.
  at::Tensor patch_embed(const at::Tensor& latents) const;

  // Of timesteps [n] (0 ... 999); fps_index 0 for 16 fps, else 1.
  TimeEmbedding time_embed(const at::Tensor& timesteps, int fps_index) const { return time_(timesteps, fps_index); }

  // context [L, text_dim] -> [L, dim].
  at::Tensor text_embed(const at::Tensor& context) const;

  // Text keys and values of one layer: [L, dim] -> two of [L, heads, head_width]; constants of a prompt.
  std::pair<at::Tensor, at::Tensor> text_kv(int64_t layer, const at::Tensor& text) const;

  // One block over packed tokens z [tokens, dim]; rotations [tokens, head_width/2] complex64.
  at::Tensor block(int64_t layer, const at::Tensor& z, const FrameModulation& time, const at::Tensor& rotations,
                   const SelfAttention& self_attention, const CrossAttention& cross_attention) const;

  // hidden [F*h*w tokens, dim] packed by frame, e [F, dim] -> velocity [F, h, w patches] unfolded:
  // [C, F, 2*grid_h, 2*grid_w] float32 (batch of B clips: [B, C, F/B, ...] through `clips`).
  at::Tensor head(const at::Tensor& hidden, const at::Tensor& e, int64_t grid_h, int64_t grid_w, int64_t clips = 1) const;

  int64_t weight_bytes() const;  // on the device or not

 private:
  at::Tensor heads_of(const at::Tensor& x) const;
  void share_parts(Block& block) const;
  void merge_projections(Block& block) const;
  int64_t to_fp8(Block& block) const;
  static std::vector<at::Tensor*> tensors_of(Block& block);
  bool fp8_layer(int64_t layer) const { return layer > 0 && layer + 1 < config_.layers; }

  TransformerConfig config_;
  Linear patch_, text_in_, text_out_, head_;
  TimeEmbedder time_;
  at::Tensor head_modulation_;
  std::vector<Block> blocks_;
  at::Tensor modulations_;
  // Where blocks are offloaded. Which of them are on the device is no state of a run: it changes nothing that is computed.
  std::unique_ptr<DeviceBlockStore> store_;
  std::unique_ptr<BlockStream> stream_;
};

}  // namespace longtake::skyreels
