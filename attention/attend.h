// One entry point for attention. Shapes are packed: no batch dimension, heads beside the head width.
//
// Today: a contiguous range of keys, which covers dense attention, K/V prefixes (SkyReels-V2's causal chunks) and key
// ranges (MAGI-1). Runs through ATen: cuDNN's kernel on Hopper in 2-byte dtypes with heads of 128 (about twice as fast there as
// the flash kernel that scaled_dot_product_attention prefers), else scaled_dot_product_attention.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace longtake {

struct KeyRange {
  int64_t begin = 0;  // first key row
  int64_t end = 0;    // one past the last key row
  bool operator==(const KeyRange&) const = default;
};

// q [n, heads, width]; k, v [rows, kv_heads, width], kv_heads divides heads; same dtype and device.
// Returns [n, heads, width] = softmax(q k^T / sqrt(width) + bias) v over the key rows [begin, end).
// bias [rows] float, or undefined for none: added to every logit of a key, in all heads; it is rounded to q's dtype.
// Throws Error(internal) with expected and found for any other shape, dtype or an empty range.
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, KeyRange keys, const at::Tensor& bias = {});

// The same with all rows of k as keys.
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// Sequences of one shape, each with its own keys.
struct Sequence {
  at::Tensor q;     // [n, heads, width]
  at::Tensor k, v;  // [rows, kv_heads, width]
  at::Tensor bias;  // [rows] or undefined, as above
};

// attend() of each over all of its keys, in one call where the queries lie in one buffer at equal distances (they may overlap),
// as do keys and values, and there is no bias: more blocks of work for the device at once.
std::vector<at::Tensor> attend_together(std::span<const Sequence> sequences);

}  // namespace longtake
