// Softmax attention, scores over sqrt(128), on Hopper's tensor cores: many sequences of different lengths in one launch, read as they lie, nothing written but the
// result (e4m3: and the values, below).
//
// One block for each multiprocessor takes tiles of 128 queries of one head, longest sequences first. One warp of it copies keys and values
// into shared memory with the tensor memory accelerator, two groups of four warps multiply 64 queries each, and take turns: while one does
// its exponentials, the other one's products run. After J. Shah et al., FlashAttention-3 (2024), sections 3.1 and 3.2. A query's result
// depends on its own values and on its keys alone, not on the other queries or sequences of a launch (in e4m3 as long as all values of a buffer that
// sequences share are finite).
//
// 16-bit elements: the weights of softmax are rounded to the elements' type. e4m3: scores are of the e4m3 values as they are, weights are
// rounded to e4m3 after a factor of 2^8, and the result saturates at 448. Tensor cores take the second operand of an 8-bit product only with the
// keys next to one another, so values are first written anew, transposed (`workspace`).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cuda/kernel.h"

namespace longtake::cuda {

enum class FlashElement { bf16, f16, e4m3 };

// All pointers are multiples of 16 bytes.
struct FlashSequence {
  const void* q = nullptr;  // [queries, heads, 128]
  const void* k = nullptr;  // [keys, key_heads, 128]
  const void* v = nullptr;  // [keys, key_heads, 128]; those of one buffer begin in one place
  void* out = nullptr;      // [queries, heads, 128]; overlaps no input
  int64_t queries = 0, keys = 0;  // at least one key; below 2^31
};

struct FlashAttention {
  FlashElement element = FlashElement::bf16;
  int64_t heads = 0, key_heads = 0;  // heads: a multiple of key_heads; neighbouring heads share one of keys
};

constexpr int64_t kFlashWidth = 128;

// Bytes of workspace, a multiple of 16: 0 but for e4m3.
size_t flash_workspace(const FlashAttention& attention, const FlashSequence* sequences, size_t count);

// Needs compute capability 9.0 and code for sm_90a: other code runs, and writes nothing.
int flash_attention(const FlashAttention& attention, const FlashSequence* sequences, size_t count, void* workspace, Stream stream);

}  // namespace longtake::cuda
