// From the projection to attention: RMS norm of queries and keys over all heads together, rotary positions, and keys
// and values into their store, row by row.
//
// On CUDA these run attention/cuda/qkv_rows.cu, elsewhere and for widths that it was not built for plain ATen. They
// write in place and are not for autograd. Norm and rotation are computed in float32 and rounded once.
// An e4m3 store's kernels read its scale on the device.
#pragma once

#include <ATen/core/Tensor.h>

namespace longtake {

// Weights and tables that all rows of a layer share.
struct QkNorm {
  at::Tensor weight_q, weight_k;  // [D], the dtype of the rows
  at::Tensor rotations;           // [positions, head_width/2] complex64 (rope_3d)
  double eps = 1e-6;
};

// Where keys and values of packed rows go.
struct KvRows {
  at::Tensor k, v;  // [store rows, heads, head_width], the dtype of the rows, or e4m3; written in place
  at::Tensor row;   // [rows] int32: row i goes to row row[i] - first; outside of the store nowhere (-1 for never)
  int64_t first = 0;
  at::Tensor v_scale{};  // [1] float32, where k, v and q are e4m3: v holds values / v_scale; undefined otherwise
};

// qkv [rows, 3 D]: queries, keys and values beside one another -> q [rows, heads, head_width] normalised and rotated;
// keys the same way and values as they are into the store. position [rows] int32: which rotation a row takes; not
// checked.
//
// With a store in e4m3, q is e4m3 too, and all three saturate at 448. Queries and keys are rounded as they are: normalised over D
// channels they are at most sqrt(2 D) times the norm's largest gain, 55 gains for 1536 channels, and e4m3 keeps its 4 significant
// bits from 2^-6 to 448, so that values near 1 lie well inside with room on both sides. What falls below 2^-6 loses bits that the sum
// over a head does not notice. Values have no norm before them, hence their scale.
void qkv_rows(at::Tensor& q, KvRows& store, const at::Tensor& qkv, const at::Tensor& position, const QkNorm& norm);

// out = x / sqrt(mean(x^2) + eps) * weight over the last dimension; x, out [rows, D] (may be one tensor), weight [D],
// one dtype.
void rms_rows(at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, double eps);

// The same in plain ATen on any device: what tests compare with.
namespace reference {
void qkv_rows(at::Tensor& q, KvRows& store, const at::Tensor& qkv, const at::Tensor& position, const QkNorm& norm);
void rms_rows(at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, double eps);
}  // namespace reference

}  // namespace longtake
