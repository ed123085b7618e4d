#include "attention/cuda/flash.cuh"

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "attention/cuda/flash_kernel.cuh"

namespace longtake::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// Of the driver, which is not linked against.
Encode encode_function() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
#else
  const cudaError_t error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
  return error == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(function) : nullptr;
}

// Boxes of `box` rows of one head of x [rows, heads, 128].
bool encode(Encode function, CUtensorMap& map, FlashElement element, const void* x, int64_t rows, int64_t heads, int box) {
  const bool narrow = element == FlashElement::e4m3;
  const cuuint64_t bytes = narrow ? 1 : 2;
  const cuuint64_t sizes[3] = {kWidth, static_cast<cuuint64_t>(heads), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[2] = {kWidth * bytes, kWidth * bytes * sizes[1]};
  const cuuint32_t boxes[3] = {static_cast<cuuint32_t>(kSwizzled / bytes), 1, static_cast<cuuint32_t>(box)}, steps[3] = {1, 1, 1};
  const CUtensorMapDataType type = narrow                         ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                                   : element == FlashElement::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                                  : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  return function(&map, type, 3, const_cast<void*>(x), sizes, strides, boxes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

// Values that begin in one place are transposed once, for the most keys of a sequence.
struct Values {
  using T = Tile<FlashElement::e4m3>;
  const void* v;
  int64_t keys;
  size_t offset = 0;  // of the workspace
  int64_t tiles() const { return steps_of(keys, T::kKeys); }
  size_t end(int64_t key_heads) const { return offset + static_cast<size_t>(key_heads * tiles()) * T::kKeyBytes; }
};

// None but in e4m3.
std::vector<Values> distinct_values(const FlashAttention& attention, const FlashSequence* sequences, size_t count) {
  std::vector<Values> values;
  for (size_t i = 0; attention.element == FlashElement::e4m3 && i < count; ++i) {
    const FlashSequence& s = sequences[i];
    const auto known = std::find_if(values.begin(), values.end(), [&](const Values& x) { return x.v == s.v; });
    if (known == values.end())
      values.push_back({s.v, s.keys});
    else
      known->keys = std::max(known->keys, s.keys);
  }
  for (size_t i = 1; i < values.size(); ++i) values[i].offset = values[i - 1].end(attention.key_heads);
  return values;
}

cudaError_t transpose(const FlashAttention& attention, const std::vector<Values>& values, uint8_t* workspace, Stream stream) {
  constexpr int kKeys = Tile<FlashElement::e4m3>::kKeys;
  for (const Values& x : values) {
    const dim3 grid(static_cast<unsigned>(x.tiles() * (kKeys / kTransposed)), static_cast<unsigned>(attention.key_heads));
    transpose_values_kernel<kKeys><<<grid, 256, 0, stream>>>(static_cast<const uint8_t*>(x.v), workspace + x.offset, static_cast<int>(x.keys),
                                                              static_cast<int>(attention.key_heads), static_cast<int>(x.tiles()));
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

template <FlashElement kElement>
cudaError_t launch(const Work& work, Stream stream) {
  int device = 0, processors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  constexpr int kBytes = Shared<kElement>::kBytes;
  if (error == cudaSuccess) error = cudaFuncSetAttribute(flash_attention_kernel<kElement>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  flash_attention_kernel<kElement><<<static_cast<unsigned>(std::min(work.tiles, processors)), kThreads, kBytes, stream>>>(work);
  return cudaGetLastError();
}

template <FlashElement kElement>
cudaError_t attend(const FlashAttention& attention, const std::vector<const FlashSequence*>& sequences, const std::vector<Values>& values,
                   const uint8_t* workspace, Encode function, Stream stream) {
  using T = Tile<kElement>;
  Work work{};
  work.heads = static_cast<int>(attention.heads);
  work.heads_per_key = static_cast<int>(attention.heads / attention.key_heads);
  work.scale_log2 = static_cast<float>(1 / (std::sqrt(static_cast<double>(kWidth)) * std::log(2.0)));
  for (const FlashSequence* s : sequences) {
    Rows& rows = work.rows[work.sequences++];
    const bool encoded = encode(function, rows.q, kElement, s->q, s->queries, attention.heads, kQueries) &&
                         encode(function, rows.k, kElement, s->k, s->keys, attention.key_heads, T::kKeys) &&
                         (T::kNarrow || encode(function, rows.v, kElement, s->v, s->keys, attention.key_heads, T::kKeys));
    if (!encoded) return cudaErrorInvalidValue;
    if constexpr (T::kNarrow) {
      const auto known = std::find_if(values.begin(), values.end(), [&](const Values& x) { return x.v == s->v; });
      rows.transposed = workspace + known->offset;
      rows.transposed_tiles = static_cast<int>(known->tiles());
    }
    rows.out = s->out;
    rows.queries = static_cast<int>(s->queries);
    rows.keys = static_cast<int>(s->keys);
    rows.query_tiles = static_cast<int>(steps_of(s->queries, kQueries));
    rows.first_tile = work.tiles;
    work.tiles += rows.query_tiles * work.heads;
  }
  return launch<kElement>(work, stream);
}

}  // namespace

size_t flash_workspace(const FlashAttention& attention, const FlashSequence* sequences, size_t count) {
  const std::vector<Values> values = distinct_values(attention, sequences, count);
  return values.empty() ? 0 : values.back().end(attention.key_heads);
}

int flash_attention(const FlashAttention& attention, const FlashSequence* sequences, size_t count, void* workspace, Stream stream) {
  static const Encode function = encode_function();
  if (function == nullptr) return cudaErrorNotSupported;
  if (attention.heads <= 0 || attention.key_heads <= 0 || attention.heads % attention.key_heads != 0) return cudaErrorInvalidValue;
  std::vector<const FlashSequence*> ordered;
  for (size_t i = 0; i < count; ++i) {
    const FlashSequence& s = sequences[i];
    if (s.keys <= 0 || s.keys > INT32_MAX || s.queries <= 0 || s.queries > INT32_MAX) return cudaErrorInvalidValue;
    ordered.push_back(&s);
  }
  std::stable_sort(ordered.begin(), ordered.end(), [](const FlashSequence* a, const FlashSequence* b) { return a->keys > b->keys; });
  const std::vector<Values> values = distinct_values(attention, sequences, count);
  if (const cudaError_t error = transpose(attention, values, static_cast<uint8_t*>(workspace), stream); error != cudaSuccess) return error;
  for (size_t begin = 0; begin < ordered.size(); begin += kLaunched) {
    const std::vector<const FlashSequence*> part(ordered.begin() + begin, ordered.begin() + std::min(begin + kLaunched, ordered.size()));
    const auto with = [&](auto element) {
      return attend<decltype(element)::value>(attention, part, values, static_cast<const uint8_t*>(workspace), function, stream);
    };
    cudaError_t error = cudaErrorInvalidValue;
    switch (attention.element) {
      case FlashElement::bf16: error = with(std::integral_constant<FlashElement, FlashElement::bf16>()); break;
      case FlashElement::f16: error = with(std::integral_constant<FlashElement, FlashElement::f16>()); break;
      case FlashElement::e4m3: error = with(std::integral_constant<FlashElement, FlashElement::e4m3>()); break;
    }
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace longtake::cuda
