// Scaled dot-product attention in 8-bit floats through cuDNN's graph API; knows raw pointers and no Torch.
//
// What the graph computes, all of it inside one kernel: P = softmax(Q K^T * scale) in float32, P * 256 rounded to e4m3, and the
// product with V, accumulated in float32, divided by 256 and rounded to e4m3 (saturating at 448). No other scale enters: what Q, K and V
// stand for beyond their e4m3 values is the caller's matter.
//
// On Hopper cuDNN 9.19 offers no wider result for e4m3 inputs (bfloat16 needs Blackwell).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>

struct CUstream_st;

namespace longtake::cudnn {

// Sequences of one size. Within a sequence tokens lie heads * width apart and heads beside one another; sequences of queries lie
// query_stride elements apart, those of keys and of values key_stride. Pointers and strides must be multiples of 16.
struct SdpaShape {
  int64_t sequences = 0, heads = 0, width = 0;
  int64_t queries = 0, keys = 0;
  int64_t query_stride = 0, key_stride = 0;
  float scale = 0;  // of the logits
  auto key() const { return std::tie(sequences, heads, width, queries, keys, query_stride, key_stride, scale); }
  bool operator<(const SdpaShape& other) const { return key() < other.key(); }
};

struct SdpaPointers {
  const void *q = nullptr, *k = nullptr, *v = nullptr;  // e4m3
  void* out = nullptr;                                  // [sequences, queries, heads, width] e4m3, dense
  const float* constants = nullptr;                     // kConstants on the device
  float* unused = nullptr;                              // two floats on the device: largest magnitudes that cuDNN insists on writing
  void* workspace = nullptr;
};

// One for descale_q, descale_k, descale_v and scale_o; descale_s; scale_s. Softmax's largest value is 1, and 256 of 448 leaves room
// and is undone exactly.
inline constexpr float kConstants[] = {1.0f, 1.0f / 256.0f, 256.0f};

// A handle of cuDNN on the device that was current when it was opened, and the plans that it has made, by shape. One thread at a time.
class SdpaFp8 {
 public:
  virtual ~SdpaFp8() = default;
  // Bytes of workspace that run() needs; makes the plan where the shape is new, which takes the host some hundred milliseconds and the
  // device nothing. Throws std::runtime_error with cuDNN's words.
  virtual int64_t prepare(const SdpaShape& shape) = 0;
  // Of a prepared shape; returns when the work is handed over. Throws std::runtime_error.
  virtual void run(const SdpaShape& shape, const SdpaPointers& pointers, CUstream_st* stream) = 0;
};

// Opens libcudnn.so.9, which LibTorch's CUDA half has loaded. Throws std::runtime_error where it, or this build's part, is missing.
std::unique_ptr<SdpaFp8> open_sdpa_fp8();

}  // namespace longtake::cudnn
