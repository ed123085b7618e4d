#include "models/skyreels/memory.h"

#include <algorithm>

namespace longtake::skyreels {
namespace {

double d(int64_t x) { return static_cast<double>(x); }

bool in_fp8(const TransformerConfig& c, const ComputeForm& form, int64_t layer) {
  return form.fp8 && layer > 0 && layer + 1 < c.layers;
}

// Of the products that Transformer::to_fp8 brings to e4m3.
double large_products(const TransformerConfig& c) { return 6 * d(c.dim) * d(c.dim) + 2 * d(c.dim) * d(c.ffn_dim); }

// FusedRow::Batch, and what the widest layer adds to it.
double fused_row_bytes(const TransformerConfig& c, const ComputeForm& form, const RowSize& row) {
  const double D = d(c.dim), F = d(c.ffn_dim), b = d(form.value_bytes), rows = d(row.rows);
  const double placed = d(row.branches * row.window_tokens);
  const double results = form.gives_queries ? rows * b * D : 0;  // y where it does not lie over the queries
  const double shared = results + rows * (4 * D + b * D + 3 * b * D + 3 * 4) + placed * b * D;  // z; u; qkv or a part of ffn; three indices; queries and y
  double layer = rows * b * D;                           // attention's result, of both branches of a group in one call; our kernel's lies over qkv
  double fp8 = form.fp8 ? rows * (D + 4) : 0;  // rounded input of the products; then of the feed-forward part's second
  if (form.fp8) layer = std::max(layer, rows * std::min(F, 3 * D));
  if (form.fp8_attention) {
    fp8 += placed * (D + 4);
    layer = std::max(layer, placed * D);  // values as our attention kernel reads them
  }
  return shared + layer + fp8;
}

// Transformer::block at its three widest moments: behind attention, behind attention to the text, within the feed-forward part.
double plain_row_bytes(const TransformerConfig& c, const ComputeForm& form, const RowSize& row) {
  const double D = d(c.dim), F = d(c.ffn_dim), b = d(form.value_bytes), rows = d(row.rows);
  const double wide = form.value_bytes == 4 ? 0 : 1;              // copies that float32 does without
  const double held = b + wide * 4 + b + 8 + b;                   // z_in, z, u, q and k in float32, v
  const double self = held + wide * 2 * b + 2 * b + wide * 4 + 8;  // q, k as attention takes them; attended, o; gate and sum
  const double text = held + (4 - wide * 4) + 3 * b + wide * 4 + 4;  // the new z; cq, attended, o; sum
  const double ffn = held + (4 - wide * 4) + 2 * b + 2 * b * F / D;  // the new z; cq and the result; hidden before and behind gelu
  const double rotations = 4 * D / d(c.heads);
  return rows * (D * std::max({self, text, ffn}) + rotations);
}

}  // namespace

double block_bytes(const TransformerConfig& c, const ComputeForm& form, int64_t layer) {
  const double D = d(c.dim), F = d(c.ffn_dim), b = d(form.value_bytes);
  const double all = 8 * D * D + 2 * D * F + (8 + 1 + 6 + 4 + 2) * D + F;  // with biases, norms, modulation
  if (!in_fp8(c, form, layer)) return all * b;
  return all * b - large_products(c) * (b - 1) + 4 * (6 * D + D + F);  // a scale for each row of a weight
}

double weight_bytes(const TransformerConfig& c, const ComputeForm& form, double parameters) {
  double bytes = parameters * d(form.value_bytes);
  for (int64_t i = 0; i < c.layers; ++i)
    if (in_fp8(c, form, i)) bytes -= large_products(c) * (d(form.value_bytes) - 1) - 4 * (7 * d(c.dim) + d(c.ffn_dim));
  return bytes;
}

double row_bytes(const TransformerConfig& c, const ComputeForm& form, const RowSize& row) {
  const double D = d(c.dim), b = d(form.value_bytes);
  const double within = form.fused ? fused_row_bytes(c, form, row) : plain_row_bytes(c, form, row);
  // Behind the last layer the row's result stays until each chunk's head has seen it: its norm in float32 (two of them, unfused).
  const double head = d(row.rows) * b * D + d(row.chunk_tokens) * D * (form.fused ? 4 : 12);
  const double rotations = d(row.window_tokens) * 4 * D / d(c.heads);
  return d(row.embedded) * b * D + rotations + std::max(within, head);
}

double kv_bytes(const TransformerConfig& c, const ComputeForm& form, int64_t tokens, int64_t branches) {
  double layers = 0;
  for (int64_t i = 0; i < c.layers; ++i) layers += form.fp8_attention && in_fp8(c, form, i) ? 1 : d(form.value_bytes);
  return 2 * d(branches * tokens) * d(c.dim) * layers;
}

double residual_bytes(const TransformerConfig& c, const ComputeForm& form, int64_t tokens) { return d(tokens * c.dim * form.value_bytes); }

double text_kv_bytes(const TransformerConfig& c, const ComputeForm& form, int64_t text_length) {
  return 2 * d(c.layers * text_length * c.dim * form.value_bytes);
}

}  // namespace longtake::skyreels
