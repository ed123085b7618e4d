// What stands between the projection to queries, keys and values and attention: RMS norm of queries and keys over all
// heads, rotary positions, and keys and values into their store.
//
// Memory-bound: every value is read once and written once. One warp takes one row of q, k or v.
#pragma once

#include "base/cuda/kernel.h"

namespace longtake::cuda {

struct QkvRows {
  int64_t rows = 0, width = 0;  // width = heads * head_width: row_fits; head_width: a multiple of 8
  int64_t head_width = 0;
  float eps = 0;
  Float type = Float::bf16;  // of qkv and the norms' weights, and of q, k and v

  const void* qkv = nullptr;     // [rows, 3 * width]: q, k, v beside one another
  const void* norm_q = nullptr;  // [width]
  const void* norm_k = nullptr;  // [width]

  // (cos, sin) pairs [positions, head_width / 2] and which position a row has.
  const float* rotations = nullptr;
  const int32_t* position = nullptr;  // [rows]

  void* q = nullptr;  // [rows, width]
  // Row r of k and v goes to row store_row[r] - first of the stores [store_rows, width]; outside of them, nowhere.
  void* k = nullptr;
  void* v = nullptr;
  const int32_t* store_row = nullptr;  // [rows]
  int64_t first = 0, store_rows = 0;

  // Where given [1], q, k and v are e4m3 instead, saturating at 448, and v is the values over this scale.
  const float* v_scale = nullptr;
};

int qkv_rows(const QkvRows& p, Stream stream);

struct RmsRows {
  int64_t rows = 0, width = 0;  // width: row_fits
  float eps = 0;
  Float type = Float::bf16;
  const void* x = nullptr;       // [rows, width]
  const void* weight = nullptr;  // [width]
  void* out = nullptr;           // [rows, width]; may be x
};

int rms_rows(const RmsRows& p, Stream stream);

}  // namespace longtake::cuda
