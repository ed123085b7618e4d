#include "models/magi/memory.h"

#include <algorithm>

#include "models/ops/cuda/gated_norm.cuh"
#include "models/ops/cuda/head_norm.cuh"

namespace longtake::magi {
namespace {

constexpr int64_t kSinusoid = 256;  // features of a timestep before its MLP

double d(int64_t x) { return static_cast<double>(x); }

// Of one layer: gains and biases of its norms, which are kept in float32, and all parameters.
double norm_parameters(const ModelConfig& c) { return 4 * 2 * d(c.dim) + 4 * 2 * d(c.head_width); }
double layer_parameters(const ModelConfig& c) {
  const double D = d(c.dim), C = d(c.condition_dim), kv = d(c.kv_heads * c.head_width);
  const double gates = 2 * D * C + 2 * D;
  return gates + norm_parameters(c) + 2 * kv * D + quantised_parameters(c);
}

// Those outside of the layers that stay in float32: embeddings, the condition and the head.
double float32_parameters(const ModelConfig& c) {
  const double D = d(c.dim), C = d(c.condition_dim), text = d(c.caption_dim);
  const double patch = 4 * D * d(c.in_channels), head = 4 * D * d(c.out_channels) + 2 * D;
  const double caption = d(c.caption_length) * text + D * text + D + C * text + C;
  return patch + head + caption + C * (d(kSinusoid) + 1) + C * (C + 1) + d(c.head_width / 8);
}

// Whether all of a layer's norms are what the kernels are made for (gated_norm.h, head_norm.h, swiglu.h).
bool fits_kernels(const ModelConfig& c) {
  const int64_t half = 3 * (c.head_width / 8);
  return cuda::norm_fits(c.dim) && cuda::head_fits(c.head_width) && half % cuda::kHeadStep == 0 && c.ffn_dim % cuda::kRowStep == 0;
}

}  // namespace

double quantised_parameters(const ModelConfig& c) {
  const double D = d(c.dim), F = d(c.ffn_dim), kv = d(c.kv_heads * c.head_width);
  return 4 * D * D + 2 * kv * D + (c.gated_mlp ? 3 : 2) * D * F;  // q and qx, k and v, the joint of 2 D, MLP
}

double parameters(const ModelConfig& c) { return float32_parameters(c) + d(c.layers) * layer_parameters(c); }

double weight_bytes(const ModelConfig& c, const ComputeForm& form, double parameters, double quantised) {
  const double b = d(form.value_bytes);
  return parameters * b + (float32_parameters(c) + d(c.layers) * norm_parameters(c)) * (4 - b) - (form.fp8 ? quantised * (b - 1) : 0);
}

double layer_bytes(const ModelConfig& c, const ComputeForm& form, bool quantised) {
  const double b = d(form.value_bytes);
  return layer_parameters(c) * b + norm_parameters(c) * (4 - b) - (form.fp8 && quantised ? quantised_parameters(c) * (b - 1) : 0);
}

double row_bytes(const ModelConfig& c, const ComputeForm& form, const RowSize& row) {
  const double D = d(c.dim), b = d(form.value_bytes), f = d(c.ffn_dim) / D, g = d(c.kv_heads * c.head_width) / D;
  const bool fused = form.fused && fits_kernels(c);
  const double wide = form.value_bytes == 4 ? 0 : 1;  // copies that float32 does without
  // In bytes a row and feature of the model. The packed input and the layer's own stay throughout.
  const double held = 2 * b;
  // The normed input and the product, beside its norm; without kernels the turned halves with their terms and the whole, too.
  const double query = held + 2 * b + (fused ? b : 4 + 13);
  const double attention = held + (4 + 2 * g) * b;                   // normed input, q, k and v; calls' results and their join
  const double caption = held + std::max(4 * b, 2 * b + (fused ? b : 4 + wide * 4));  // what was seen, the query; results and join, or norm
  const double joint = held + 2 * b + std::max(2 * b, form.fp8 ? b + (fused ? 10 : 18) : fused ? 4 : 4 + wide * 8);  // both results and their join; its product
  const double post = held + 4 + (fused ? 2 * b : 12 + wide * (4 + b));  // the product; the sum and its norm, or gate, norm, and sum
  // From here on with the sum.
  const double activated = c.gated_mlp ? f * (fused ? 3 * b : 2 * b + 8 + wide * (8 + b)) : f * b;  // in place but for a gated one
  const double inner = held + b + std::max(b + (c.gated_mlp ? 2 : 1) * f * b, activated);
  const double outer = held + b + std::max(f * b + b + (form.fp8 ? (fused ? 5 : 9) * f : 0), b + (fused ? b : 12 + wide * (4 + b)));
  const double widest = std::max({query, attention, caption, joint, post, inner, outer});
  const double joint_weight = form.fp8 || fused ? 0 : wide * 4 * 2 * D * D;  // in float32 while it multiplies
  const double joined = 2 * d(row.joined) * g * D * b;
  const double expanded = form.fused && wide == 0 && c.kv_heads < c.heads ? 2 * d(row.keys) * D * b : 0;  // attention/attend.cpp, float32
  const double within = std::max({d(row.rows) * D * widest, d(row.rows) * D * joint + joint_weight, d(row.rows) * D * attention + joined + expanded});
  const double rotations = 3 * d(c.head_width) * d(row.rows + row.video);
  // Of the video; of each chunk the input and its successor; of each item its velocity.
  const double latents = 16 * d(c.latent_channels()) * d(row.video + 2 * row.embedded + row.rows);
  return within + d(row.embedded) * D * b + rotations + latents;
}

double kv_bytes(const ModelConfig& c, const ComputeForm& form, int64_t tokens) {
  return 2 * d(c.layers * tokens * c.kv_heads * c.head_width * form.value_bytes);
}

double text_kv_bytes(const ModelConfig& c, const ComputeForm& form, int64_t rows) { return kv_bytes(c, form, rows); }

}  // namespace longtake::magi
