// The transformer on a batch of windows, differentiable: what training and its sampler call. Equal to SkyReelsBackbone's
// row by row with a K/V cache, which a test checks.
#pragma once

#include "models/skyreels/transformer.h"

namespace longtake::train {

inline constexpr int64_t kChunkFrames = 5;

// Creates the transformer's weights (original names) in a source that makes them on demand.
skyreels::TransformerConfig demo_transformer(int64_t dim, int64_t layers, int64_t text_dim);

// x [B, 16, F, h, w], timesteps [B, F], context [B, L, text_dim] -> velocity [B, 16, F, h, w] float32.
// causal: a chunk of five latent frames attends to itself and the chunks before it; otherwise everything to everything.
at::Tensor predict(const skyreels::Transformer& model, const at::Tensor& x, const at::Tensor& timesteps, const at::Tensor& context,
                   bool causal);

}  // namespace longtake::train
