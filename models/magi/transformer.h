// The MAGI-1 diffusion transformer: its weights and the pure functions over them.
//
// Spec: magi1.md 2.2-2.7; names and shapes of the weights 1.7. Tokens are packed [tokens, dim], frame-major, then rows,
// then columns; several chunks may stand behind one another. How a layer attends is the caller's choice: it passes two
// functions.
//
// Precision: matrix products and the residual stream in the working dtype (that of the weights); norms, rotation,
// gates, patch embedding, caption projection, head and the product that joins both attentions in float32.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "models/magi/condition.h"
#include "models/magi/config.h"
#include "models/magi/quantised.h"
#include "models/ops/block_stream.h"
#include "models/weights/source.h"
#include "quant/linear.h"

namespace longtake::magi {

// q [tokens, heads, head_width], k, v [tokens, kv_heads, head_width] in the working dtype, q and k normalised and
// rotated
// -> [tokens, heads, head_width].
using SelfAttention = std::function<at::Tensor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v)>;
// q [tokens, heads, head_width] -> attention over each chunk's caption rows, [tokens, heads, head_width].
using CrossAttention = std::function<at::Tensor(const at::Tensor& q)>;

class Transformer {
 public:
  // Takes the weights by their checkpoint names. Sizes that differ from the configuration, missing tensors and more layers
  // than it says are Errors (bad_file). Layers of quantised checkpoints are known by their scales (quantised.h); fp8 needs
  // bfloat16 as the working dtype.
  Transformer(WeightSource& source, const ModelConfig& config, bool distilled,
              QuantisedAs quantised_as = QuantisedAs::working_dtype);

  // Behind the constructor, with weights on the CPU: everything but the layers goes to `device`, and each layer passes by there and then
  // stays in host memory (block_stream.h). From now on `text_kv`, `gates` and `block` bring what they compute with; they are for one thread
  // and the device's current stream.
  void offload(const at::Device& device);
  bool offloaded() const { return store_ != nullptr; }

  const ModelConfig& config() const { return config_; }
  bool distilled() const { return distilled_; }
  // Linear layers that the checkpoint held quantised, and those of them that compute in fp8.
  int64_t quantised() const { return quantised_; }
  int64_t in_fp8() const;
  at::ScalarType dtype() const { return dtype_; }
  at::Device device() const { return patch_.weight.device(); }

  // latents [C, F, h, w] -> [F*(h/2)*(w/2), dim] in the working dtype.
  at::Tensor patch_embed(const at::Tensor& latents) const;

  // Rotations of frames [first_frame, first_frame + frames) of a grid in patches (models/magi/rope.h).
  at::Tensor rotations(int64_t first_frame, int64_t frames, int64_t grid_h, int64_t grid_w) const;

  const Condition& condition() const { return condition_; }

  // The learned caption that stands for no text, [caption_length, caption_dim] float32. Only its first rows count
  // (null_rows in models/magi/text_rows.h).
  const at::Tensor& null_caption() const { return null_caption_; }

  // Caption rows that count, [L, caption_dim] -> [L, dim].
  at::Tensor text_embed(const at::Tensor& caption) const;

  // Text keys and values of one layer: [L, dim] -> two of [L, kv_heads, head_width]; constants of a prompt.
  std::pair<at::Tensor, at::Tensor> text_kv(int64_t layer, const at::Tensor& text) const;

  // What both gates of a layer are the tanh of: condition [n, condition_dim] -> [n, 2*dim].
  at::Tensor gates(int64_t layer, const at::Tensor& condition) const;

  // One layer over packed tokens x [tokens, dim] of n chunks: `rows` tokens and one row of `condition` [n,
  // condition_dim] each; rotations [tokens, 6*bands].
  at::Tensor block(int64_t layer, const at::Tensor& x, const at::Tensor& condition, const std::vector<int64_t>& rows,
                   const at::Tensor& rotations, const SelfAttention& self_attention,
                   const CrossAttention& cross_attention) const;

  // hidden [F*grid_h*grid_w, dim] -> velocity [C, F, 2*grid_h, 2*grid_w] float32.
  at::Tensor head(const at::Tensor& hidden, int64_t grid_h, int64_t grid_w) const;

  int64_t weight_bytes() const;  // on the device or not

 private:
  // Of a LayerNorm over the last dimension; float32.
  struct Norm {
    at::Tensor gain, bias;
  };
  struct Layer {
    Linear ada;                                     // condition -> gates
    Norm norm;                                      // before both attentions
    Linear q, k, v, text_q, text_kv;                // text_kv: rows grouped by K/V head, its keys and then its values
    Norm q_norm, k_norm, text_q_norm, text_k_norm;  // of one head
    Linear out;                                     // joins both attentions
    Norm attention_post, mlp_norm, mlp_post;
    Linear mlp_in, mlp_out;
  };
  Layer take_layer(WeightSource& source, int64_t index);
  static std::vector<at::Tensor*> tensors_of(Layer& layer);
  // Without a bias; one that is quantised is counted.
  Linear take_linear(WeightSource& source, const std::string& name, int64_t out, int64_t in);
  // The output projection: float32, or bfloat16 in fp8.
  at::Tensor join(const Layer& layer, const at::Tensor& joined) const;
  at::Tensor split_heads(const at::Tensor& x) const;

  ModelConfig config_;
  bool distilled_;
  QuantisedAs quantised_as_;
  int64_t quantised_ = 0;
  at::ScalarType dtype_;
  Linear patch_, text_in_, head_;
  at::Tensor null_caption_, bands_;
  Condition condition_;
  std::vector<Layer> layers_;
  Norm final_norm_;
  // Where layers are offloaded. Which of them are on the device is no state of a run: it changes nothing that is computed.
  std::unique_ptr<DeviceBlockStore> store_;
  std::unique_ptr<BlockStream> stream_;
};

}  // namespace longtake::magi
