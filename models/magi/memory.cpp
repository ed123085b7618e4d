#include "models/magi/memory.h"

#include <algorithm>

namespace longtake::magi {
namespace {

constexpr int64_t kSinusoid = 256;  // features of a timestep before its MLP

double d(int64_t x) { return static_cast<double>(x); }

// Parameters of one layer.
double layer_parameters(const ModelConfig& c) {
  const double D = d(c.dim), F = d(c.ffn_dim), C = d(c.condition_dim), kv = d(c.kv_heads * c.head_width);
  const double gates = 2 * D * C + 2 * D, norms = 4 * 2 * D + 4 * 2 * d(c.head_width);
  return gates + norms + 2 * kv * D + quantised_parameters(c);
}

// Those that stay in float32: embeddings, the condition and the head.
double float32_parameters(const ModelConfig& c) {
  const double D = d(c.dim), C = d(c.condition_dim), text = d(c.caption_dim);
  const double patch = 4 * D * d(c.in_channels), head = 4 * D * d(c.out_channels) + 2 * D;
  const double caption = d(c.caption_length) * text + D * text + D + C * text + C;
  return patch + head + caption + C * (d(kSinusoid) + 1) + C * (C + 1) + d(c.head_width / 8);
}

}  // namespace

double quantised_parameters(const ModelConfig& c) {
  const double D = d(c.dim), F = d(c.ffn_dim), kv = d(c.kv_heads * c.head_width);
  return 4 * D * D + 2 * kv * D + (c.gated_mlp ? 3 : 2) * D * F;  // q and qx, k and v, the joint of 2 D, MLP
}

double parameters(const ModelConfig& c) { return float32_parameters(c) + d(c.layers) * layer_parameters(c); }

double weight_bytes(const ModelConfig& c, const ComputeForm& form, double parameters, double quantised) {
  const double b = d(form.value_bytes);
  return parameters * b + float32_parameters(c) * (4 - b) - (form.fp8 ? quantised * (b - 1) : 0);
}

double layer_bytes(const ModelConfig& c, const ComputeForm& form, bool quantised) {
  const double b = d(form.value_bytes);
  return layer_parameters(c) * b - (form.fp8 && quantised ? quantised_parameters(c) * (b - 1) : 0);
}

double row_bytes(const ModelConfig& c, const ComputeForm& form, const RowSize& row) {
  const double D = d(c.dim), b = d(form.value_bytes), f = d(c.ffn_dim) / D, g = d(c.kv_heads * c.head_width) / D;
  const double wide = form.value_bytes == 4 ? 0 : 1;  // copies that float32 does without
  // In bytes a row and feature of the model. The packed input and the layer's own stay throughout; normed input, q, k and what
  // attention gave stay to the layer's end.
  const double query = 4 * b + 4 + 7;                                 // the product, its norm, the turned halves and the whole
  const double attention = (6 + 2 * g) * b;                           // v; calls' results and their join
  const double caption = (8 + g) * b + 4 + wide * b;                  // the query's product, norm and rounding; results and join
  const double held = (8 + g) * b;                                    // with what both attentions gave, once more behind one another
  const double joint = held + wide * 4 + std::max(form.fp8 ? 18.0 : 4 + wide * 8, 16 + wide * b);  // product, gate, norm, sum
  const double inner = (9 + g) * b + std::max(4 + wide * b + (c.gated_mlp ? 2 : 1) * f * b,
                                              c.gated_mlp ? f * (2 * b + wide * (8 + b) + 8) : 2 * f * b);
  const double outer = (9 + g) * b + f * b + b + std::max(form.fp8 ? 9 * f : 0.0, 12 + wide * (4 + b));
  const double widest = std::max({query, attention, caption, joint, inner, outer});
  const double joint_weight = form.fp8 ? 0 : wide * 4 * 2 * D * D;    // in float32 while it multiplies
  const double joined = 2 * d(row.joined) * g * D * b;
  const double within = std::max(d(row.rows) * D * widest + joint_weight, d(row.rows) * D * attention + joined);
  const double rotations = 3 * d(c.head_width) * d(row.rows + row.video);
  // Of the video; of each chunk the input and its successor; of each item its velocity.
  const double latents = 16 * d(c.latent_channels()) * d(row.video + 2 * row.embedded + row.rows);
  return within + d(row.embedded) * D * b + rotations + latents;
}

double kv_bytes(const ModelConfig& c, const ComputeForm& form, int64_t tokens) {
  return 2 * d(c.layers * tokens * c.kv_heads * c.head_width * form.value_bytes);
}

// Values are a view of the product that holds keys too, as they were before their norm.
double text_kv_bytes(const ModelConfig& c, const ComputeForm& form, int64_t rows) { return 1.5 * kv_bytes(c, form, rows); }

}  // namespace longtake::magi
