// Scaled dot-product attention through cuDNN's graph API; knows raw pointers and no Torch.
//
// In bfloat16 and float16: softmax(Q K^T * scale) V with sums and softmax in float32, as everywhere.
//
// In e4m3, all of it inside one kernel: P = softmax(Q K^T * scale) in float32, P * 256 rounded to e4m3, and the product with V,
// accumulated in float32, divided by 256 and rounded to e4m3 (saturating at 448). No other scale enters: what Q, K and V stand for beyond
// their e4m3 values is the caller's matter. On Hopper cuDNN 9.19 offers no wider result for e4m3 inputs (bfloat16 needs Blackwell).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>

struct CUstream_st;

namespace longtake::cudnn {

enum class Element { e4m3, bf16, f16 };

// Sequences of one size. Within a sequence tokens lie all of their heads apart and heads beside one another; sequences of queries lie
// query_stride elements apart, those of keys and of values key_stride; of a single sequence both are 0, so that
// its plan is found whatever they would be. Pointers and strides must be multiples of 16 bytes.
struct SdpaShape {
  Element element = Element::bf16;
  int64_t sequences = 0, heads = 0, width = 0;
  int64_t key_heads = 0;  // of keys and of values: as many, or in 16 bits fewer that divide them, each for neighbouring heads of queries
  int64_t queries = 0, keys = 0;
  int64_t query_stride = 0, key_stride = 0;
  float scale = 0;  // of the logits
  // True: `queries` and `keys` are the most that a sequence can have, and how many it has is read on the device when the kernel runs
  // (SdpaPointers). One plan then serves all counts up to these.
  bool counted = false;
  auto key() const { return std::tie(element, sequences, heads, width, key_heads, queries, keys, query_stride, key_stride, scale, counted); }
  bool operator<(const SdpaShape& other) const { return key() < other.key(); }
};

struct SdpaPointers {
  const void *q = nullptr, *k = nullptr, *v = nullptr;  // of the element's type
  void* out = nullptr;                                  // [sequences, queries, heads, width], dense
  const int32_t *query_counts = nullptr, *key_counts = nullptr;  // [sequences] on the device, where `counted`
  // In e4m3: kConstants on the device, and two floats for largest magnitudes that cuDNN insists on writing.
  const float* constants = nullptr;
  float* unused = nullptr;
  void* workspace = nullptr;
};

// One for descale_q, descale_k, descale_v and scale_o; descale_s; scale_s. Softmax's largest value is 1, and 256 of 448 leaves room
// and is undone exactly.
inline constexpr float kConstants[] = {1.0f, 1.0f / 256.0f, 256.0f};

// How plans come about: each shape compiled for itself, or as a graph of dynamic shape whose kernels later shapes share.
enum class Plans { exact, dynamic };

// A handle of cuDNN on the device that was current when it was opened, and the plans that it has made, by shape. One thread at a time.
class Sdpa {
 public:
  virtual ~Sdpa() = default;
  // Bytes of workspace that run() needs; makes the plan where the shape is new, which can take the host some hundred milliseconds and
  // takes the device nothing. Throws std::runtime_error with cuDNN's words.
  virtual int64_t prepare(const SdpaShape& shape) = 0;
  // Of a prepared shape; returns when the work is handed over. Throws std::runtime_error.
  virtual void run(const SdpaShape& shape, const SdpaPointers& pointers, CUstream_st* stream) = 0;
  virtual int64_t plans() const = 0;  // made so far
};

// Opens libcudnn.so.9, which LibTorch's CUDA half has loaded. Throws std::runtime_error where it, or this build's part, is missing.
std::unique_ptr<Sdpa> open_sdpa(Plans plans = Plans::exact);

}  // namespace longtake::cudnn
