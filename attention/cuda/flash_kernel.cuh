// Device code of flash.cu: how tiles lie, what copies them and what multiplies them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "attention/cuda/flash.cuh"
#include "attention/cuda/hopper.cuh"
#include "base/cuda/e4m3.cuh"

#if !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#pragma nv_diag_suppress 177  // in code for other GPUs the kernel is empty
#endif

// (In an unnamed namespace, as kernels of a .cu file are: one file includes this.)
namespace longtake::cuda {
namespace {

constexpr int kWidth = kFlashWidth;
constexpr int kGroups = 2, kGroupRows = 64, kQueries = kGroups * kGroupRows;  // of a tile
constexpr int kThreads = 128 * (1 + kGroups), kWarps = 4 * kGroups;           // of a block; that multiply
constexpr int kStages = 2;
constexpr int kLaunched = 16;  // sequences of a launch: what the kernel knows of them takes 8 KB, more than drivers before 12.1 pass on
constexpr int kSwizzled = 128;  // bytes of a row of shared memory

// How an element's tiles lie. Keys of a step: as many as registers hold scores of.
template <FlashElement kElement>
struct Tile {
  static constexpr bool kNarrow = kElement == FlashElement::e4m3;
  static constexpr int kBytes = kNarrow ? 1 : 2, kKeys = kNarrow ? 224 : 176;
  static constexpr int kColumns = kSwizzled / kBytes;               // channels in a swizzled row,
  static constexpr int kHalves = kWidth / kColumns;                 // of which a head has so many
  static constexpr int kDepth = 32 / kBytes;                        // channels or keys of one product
  static constexpr int kQueryBytes = kQueries * kWidth * kBytes, kKeyBytes = kKeys * kWidth * kBytes;
  static constexpr int kScores = kKeys / 2, kWeights = kKeys * kBytes / 4;  // registers of a thread
  // Weights of softmax times 2^kShift: e4m3 has few values below 1.
  static constexpr float kShift = kNarrow ? 8.f : 0.f;
};

// Shared memory, by address. Swizzled tiles begin at multiples of 1,024 bytes.
template <FlashElement kElement>
struct Shared {
  using T = Tile<kElement>;
  static constexpr int kBytes = 2 * 1024 + T::kQueryBytes + 2 * kStages * T::kKeyBytes;  // with room to align

  uint32_t base;
  __device__ explicit Shared(const void* raw) : base((hopper::shared_address(raw) + 1023) & ~1023u) {}
  __device__ uint32_t queries_full() const { return base; }
  __device__ uint32_t queries_free() const { return base + 8; }
  __device__ uint32_t keys_full(int stage) const { return base + 16 + 8 * stage; }
  __device__ uint32_t keys_free(int stage) const { return base + 16 + 8 * (kStages + stage); }
  __device__ uint32_t values_full(int stage) const { return base + 16 + 8 * (2 * kStages + stage); }
  __device__ uint32_t values_free(int stage) const { return base + 16 + 8 * (3 * kStages + stage); }
  __device__ uint32_t queries() const { return base + 1024; }
  __device__ uint32_t keys(int stage) const { return queries() + T::kQueryBytes + stage * T::kKeyBytes; }
  __device__ uint32_t values(int stage) const { return keys(kStages + stage); }
};

// What the kernel knows of a sequence. Maps end with its rows: what lies behind them reads as 0.
struct Rows {
  CUtensorMap q, k, v;
  const uint8_t* transposed;  // e4m3: tiles of v, transposed
  void* out;
  int queries, keys, transposed_tiles;
  int query_tiles, first_tile;  // tiles of a head; of all sequences before
};

struct Work {
  Rows rows[kLaunched];
  int sequences, heads, heads_per_key, tiles;
  float scale_log2;
};

struct Place {
  int sequence, head, query;
};

__device__ Place place_of(const Work& work, int tile) {
  int s = 0;
  while (s + 1 < work.sequences && tile >= work.rows[s + 1].first_tile) ++s;
  const int within = tile - work.rows[s].first_tile, tiles = work.rows[s].query_tiles;
  return {s, within / tiles, within % tiles * kQueries};
}

// Of `count` things, at least one, in steps of so many.
template <class Int>
__host__ __device__ constexpr Int steps_of(Int count, int step) {
  return 1 + (count - 1) / step;
}

// A place in a ring of stages, and the parity of the phase that it is in.
struct Ring {
  int stage = 0, parity = 0;
  __device__ void advance() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

// ----------------------------------------------------------------------------------------------------------------------
// CUDA kernels

// One thread's work: what the others multiply, copied into shared memory as room gets free.
template <FlashElement kElement>
__device__ void copy_tiles(const Work& work, const Shared<kElement>& shared) {
  using T = Tile<kElement>;
  Ring keys, values;
  int parity = 0;
  for (int tile = blockIdx.x; tile < work.tiles; tile += gridDim.x) {
    const Place place = place_of(work, tile);
    const Rows& rows = work.rows[place.sequence];
    const int key_head = place.head / work.heads_per_key, steps = steps_of(rows.keys, T::kKeys);
    const auto copy = [&](uint32_t to, const CUtensorMap& map, uint32_t barrier, int head, int row, int count) {
#pragma unroll
      for (int half = 0; half < T::kHalves; ++half)
        hopper::copy_box(to + half * count * kSwizzled, &map, barrier, half * T::kColumns, head, row);
    };
    const auto copy_keys = [&](int step) {
      hopper::wait(shared.keys_free(keys.stage), keys.parity ^ 1);
      const uint32_t barrier = shared.keys_full(keys.stage);
      hopper::arrive_expecting(barrier, T::kKeyBytes);
      copy(shared.keys(keys.stage), rows.k, barrier, key_head, step * T::kKeys, T::kKeys);
      keys.advance();
    };
    const auto copy_values = [&](int step) {
      hopper::wait(shared.values_free(values.stage), values.parity ^ 1);
      const uint32_t barrier = shared.values_full(values.stage);
      hopper::arrive_expecting(barrier, T::kKeyBytes);
      if constexpr (T::kNarrow)
        hopper::copy_bytes(shared.values(values.stage), rows.transposed + (static_cast<int64_t>(key_head) * rows.transposed_tiles + step) * T::kKeyBytes,
                           T::kKeyBytes, barrier);
      else
        copy(shared.values(values.stage), rows.v, barrier, key_head, step * T::kKeys, T::kKeys);
      values.advance();
    };
    hopper::wait(shared.queries_free(), parity ^ 1);
    hopper::arrive_expecting(shared.queries_full(), T::kQueryBytes);
    copy(shared.queries(), rows.q, shared.queries_full(), place.head, place.query, kQueries);
    parity ^= 1;
    // From the last keys on, because only they need to be masked; keys are needed one step ahead of their values.
    copy_keys(steps - 1);
    for (int step = steps - 1; step > 0; --step) {
      copy_keys(step - 1);
      copy_values(step);
    }
    copy_values(0);
  }
}

__device__ float exp2_of(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ uint32_t pack_e4m3(float a, float b, float c, float d) { return e4m3_pair(a, b) | e4m3_pair(c, d) << 16; }

template <FlashElement kElement>
__device__ uint32_t pack_pair(float a, float b) {
  if constexpr (kElement == FlashElement::f16) {
    const __half2 pair = __floats2half2_rn(a, b);
    return *reinterpret_cast<const uint32_t*>(&pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
}

// `a` in shared memory (a matrix) or in registers.
template <FlashElement kElement, int kCount, class A>
__device__ void multiply(float (&d)[kCount], A a, uint64_t b, int add) {
  if constexpr (kElement == FlashElement::bf16)
    hopper::multiply_bf16(d, a, b, add);
  else if constexpr (kElement == FlashElement::f16)
    hopper::multiply_f16(d, a, b, add);
  else
    hopper::multiply_e4m3(d, a, b, add);
}

// 64 queries of a tile after the other: one group of four warps. A thread holds parts of two rows, `below` the second one.
template <FlashElement kElement>
class Group {
  using T = Tile<kElement>;

 public:
  __device__ Group(const Work& work, const Shared<kElement>& shared)
      : work_(work), shared_(shared), group_(threadIdx.x / 128 - 1), warp_(threadIdx.x / 32 % 4), lane_(threadIdx.x % 32) {}

  __device__ void run() {
    if (group_ == kGroups - 1) pass_turn();  // the first group's
    for (int tile = blockIdx.x; tile < work_.tiles; tile += gridDim.x) {
      const Place place = place_of(work_, tile);
      attend(work_.rows[place.sequence].keys);
      store(work_.rows[place.sequence], place);
    }
  }

 private:
  // Groups take turns in giving the tensor cores work.
  __device__ void await_turn() const { asm volatile("bar.sync %0, 256;" ::"r"(1 + group_) : "memory"); }
  __device__ void pass_turn() const { asm volatile("bar.arrive %0, 256;" ::"r"(1 + (group_ + 1) % kGroups) : "memory"); }

  __device__ void release(uint32_t barrier) const {
    if (lane_ == 0) hopper::arrive(barrier);
  }
  __device__ void free_keys() {
    release(shared_.keys_free(keys_.stage));
    keys_.advance();
  }
  __device__ void free_values() {
    release(shared_.values_free(values_.stage));
    values_.advance();
  }

  __device__ void begin_scores() {
    const uint32_t q = shared_.queries() + group_ * kGroupRows * kSwizzled, k = shared_.keys(keys_.stage);
    constexpr int kPerHalf = T::kColumns / T::kDepth;
    hopper::begin_products();
#pragma unroll
    for (int i = 0; i < kWidth / T::kDepth; ++i) {
      const int half = i / kPerHalf, within = i % kPerHalf * 32;
      multiply<kElement>(scores_, hopper::matrix<hopper::Swizzle::bytes_128>(q + half * kQueries * kSwizzled + within, 16, 8 * kSwizzled),
                         hopper::matrix<hopper::Swizzle::bytes_128>(k + half * T::kKeys * kSwizzled + within, 16, 8 * kSwizzled), i > 0);
    }
    hopper::commit_products();
  }

  __device__ void begin_values(bool add) {
    const uint32_t v = shared_.values(values_.stage);
    hopper::begin_products();
#pragma unroll
    for (int i = 0; i < T::kKeys / T::kDepth; ++i) {
      uint64_t b;
      if constexpr (T::kNarrow)
        b = hopper::matrix<hopper::Swizzle::none>(v + i * 32 * kWidth, 16 * kWidth, 128);
      else
        b = hopper::matrix<hopper::Swizzle::bytes_128>(v + i * T::kDepth * kSwizzled, T::kKeys * kSwizzled, 8 * kSwizzled);
      multiply<kElement>(sums_, weights_ + 4 * i, b, i > 0 || add);
    }
    hopper::commit_products();
  }

  __device__ void mask(int keys) {
    const int left = keys - 2 * (lane_ % 4);
#pragma unroll
    for (int j = 0; j < T::kScores / 4; ++j) {
      if (8 * j >= left) scores_[4 * j] = scores_[4 * j + 2] = -INFINITY;
      if (8 * j + 1 >= left) scores_[4 * j + 1] = scores_[4 * j + 3] = -INFINITY;
    }
  }

  __device__ float2 largest() const {
    float2 x{scores_[0], scores_[2]};
#pragma unroll
    for (int j = 0; j < T::kScores / 4; ++j) {
      x.x = fmaxf(x.x, fmaxf(scores_[4 * j], scores_[4 * j + 1]));
      x.y = fmaxf(x.y, fmaxf(scores_[4 * j + 2], scores_[4 * j + 3]));
    }
#pragma unroll
    for (int distance = 1; distance < 4; distance *= 2) {
      x.x = fmaxf(x.x, __shfl_xor_sync(~0u, x.x, distance));
      x.y = fmaxf(x.y, __shfl_xor_sync(~0u, x.y, distance));
    }
    return x;
  }

  // Scores to weights, relative to largest_, and their sum.
  __device__ void exponentiate() {
    const float scale = work_.scale_log2, above = largest_.x * scale - T::kShift, below = largest_.y * scale - T::kShift;
    float2 sum{0, 0};
#pragma unroll
    for (int j = 0; j < T::kScores / 4; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        scores_[4 * j + i] = exp2_of(fmaf(scores_[4 * j + i], scale, -above));
        scores_[4 * j + 2 + i] = exp2_of(fmaf(scores_[4 * j + 2 + i], scale, -below));
        sum.x += scores_[4 * j + i];
        sum.y += scores_[4 * j + 2 + i];
      }
    }
    total_.x += sum.x;
    total_.y += sum.y;
  }

  // What the products want in one register: 16-bit, two neighbouring keys; 8-bit, four neighbours, for which transposed values put keys
  // 0, 1, 8, 9 of sixteen side by side, then 2, 3, 10, 11, and so on.
  __device__ void round_weights() {
    if constexpr (T::kNarrow) {
#pragma unroll
      for (int i = 0; i < T::kKeys / 32; ++i) {
        const float* x = scores_ + 16 * i;
        weights_[4 * i] = pack_e4m3(x[0], x[1], x[4], x[5]);
        weights_[4 * i + 1] = pack_e4m3(x[2], x[3], x[6], x[7]);
        weights_[4 * i + 2] = pack_e4m3(x[8], x[9], x[12], x[13]);
        weights_[4 * i + 3] = pack_e4m3(x[10], x[11], x[14], x[15]);
      }
    } else {
#pragma unroll
      for (int i = 0; i < T::kWeights; ++i) weights_[i] = pack_pair<kElement>(scores_[2 * i], scores_[2 * i + 1]);
    }
  }

  // Softmax over the keys from the last to the first, with the largest score so far as reference (online softmax).
  __device__ void attend(int keys) {
    const int steps = steps_of(keys, T::kKeys);
    hopper::wait(shared_.queries_full(), queries_parity_);
    queries_parity_ ^= 1;
    hopper::wait(shared_.keys_full(keys_.stage), keys_.parity);
    begin_scores();
    hopper::wait_products<0>();
    hopper::pin(scores_);
    free_keys();
    if (steps == 1) release(shared_.queries_free());
    mask(keys - (steps - 1) * T::kKeys);
    largest_ = largest();
    total_ = {0, 0};
    exponentiate();
    round_weights();
    if (steps > 1) hopper::wait(shared_.keys_full(keys_.stage), keys_.parity);
    for (int step = steps - 1; step > 0; --step) {
      await_turn();
      begin_scores();
      hopper::wait(shared_.values_full(values_.stage), values_.parity);
      begin_values(step < steps - 1);
      pass_turn();
      hopper::wait_products<1>();
      hopper::pin(scores_);
      free_keys();
      if (step == 1) release(shared_.queries_free());
      float2 larger = largest();
      larger = {fmaxf(larger.x, largest_.x), fmaxf(larger.y, largest_.y)};
      const float2 shrink{exp2_of((largest_.x - larger.x) * work_.scale_log2), exp2_of((largest_.y - larger.y) * work_.scale_log2)};
      const bool shrinks = __any_sync(~0u, larger.x != largest_.x || larger.y != largest_.y);
      largest_ = larger;
      total_.x *= shrink.x;
      total_.y *= shrink.y;
      exponentiate();
      // Exponentials shall run while values are multiplied: a branch on their sum, which is never this NaN, keeps the assembler from moving
      // them behind the wait for the products.
      const bool summed = __float_as_uint(total_.x) != ~0u && __float_as_uint(total_.y) != ~0u;
      if (step > 1 && summed) hopper::wait(shared_.keys_full(keys_.stage), keys_.parity);
      hopper::wait_products<0>();
      hopper::pin(sums_);
      free_values();
      round_weights();
      if (shrinks) {
#pragma unroll
        for (int j = 0; j < 16; ++j) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            sums_[4 * j + i] *= shrink.x;
            sums_[4 * j + 2 + i] *= shrink.y;
          }
        }
      }
    }
    hopper::wait(shared_.values_full(values_.stage), values_.parity);
    begin_values(steps > 1);
#pragma unroll
    for (int distance = 1; distance < 4; distance *= 2) {
      total_.x += __shfl_xor_sync(~0u, total_.x, distance);
      total_.y += __shfl_xor_sync(~0u, total_.y, distance);
    }
    hopper::wait_products<0>();
    hopper::pin(sums_);
    free_values();
  }

  __device__ void store(const Rows& rows, const Place& place) const {
    const int row = place.query + group_ * kGroupRows + warp_ * 16 + lane_ / 4, quarter = lane_ % 4;
    const float2 inverse{1 / total_.x, 1 / total_.y};
    const int64_t token = static_cast<int64_t>(work_.heads) * kWidth, first = row * token + place.head * kWidth;
#pragma unroll
    for (int below = 0; below < 2; ++below) {
      if (row + 8 * below >= rows.queries) continue;
      const float factor = below ? inverse.y : inverse.x;
      const float* x = sums_ + 2 * below;
      if constexpr (T::kNarrow) {
        // Transposed values' channels are ordered so that a thread holds 32 neighbours.
        uint8_t* out = static_cast<uint8_t*>(rows.out) + first + 8 * below * token + 32 * quarter;
        uint32_t words[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) words[i] = pack_e4m3(x[8 * i] * factor, x[8 * i + 1] * factor, x[8 * i + 4] * factor, x[8 * i + 5] * factor);
        reinterpret_cast<uint4*>(out)[0] = make_uint4(words[0], words[1], words[2], words[3]);
        reinterpret_cast<uint4*>(out)[1] = make_uint4(words[4], words[5], words[6], words[7]);
      } else {
        uint16_t* out = static_cast<uint16_t*>(rows.out) + first + 8 * below * token + 2 * quarter;
#pragma unroll
        for (int j = 0; j < 16; ++j) *reinterpret_cast<uint32_t*>(out + 8 * j) = pack_pair<kElement>(x[4 * j] * factor, x[4 * j + 1] * factor);
      }
    }
  }

  const Work& work_;
  const Shared<kElement>& shared_;
  const int group_, warp_, lane_;
  Ring keys_, values_;
  int queries_parity_ = 0;
  float scores_[T::kScores], sums_[64];
  uint32_t weights_[T::kWeights];
  float2 largest_, total_;
};

template <FlashElement kElement>
__global__ void __launch_bounds__(kThreads, 1) flash_attention_kernel(const __grid_constant__ Work work) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t raw[];
  const Shared<kElement> shared(raw);
  if (threadIdx.x == 0) {
    hopper::init_barrier(shared.queries_full(), 1);
    hopper::init_barrier(shared.queries_free(), kWarps);
    for (int stage = 0; stage < kStages; ++stage) {
      hopper::init_barrier(shared.keys_full(stage), 1);
      hopper::init_barrier(shared.keys_free(stage), kWarps);
      hopper::init_barrier(shared.values_full(stage), 1);
      hopper::init_barrier(shared.values_free(stage), kWarps);
    }
    hopper::publish_barriers();
  }
  __syncthreads();
  // A block is launched with 168 registers a thread: those that copy hand theirs to those that multiply.
  if (threadIdx.x < 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x == 0) copy_tiles<kElement>(work, shared);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    Group<kElement>(work, shared).run();
  }
#endif
}

// v [keys, heads, 128] -> tiles of kKeys keys of one head: [keys / 16][128 channels][16 keys], keys and channels in the order in which products
// hand out weights and results. Keys that do not exist are 0. A block takes 32 keys of one head.
constexpr int kTransposed = 32;

template <int kKeys>
__global__ void __launch_bounds__(256) transpose_values_kernel(const uint8_t* v, uint8_t* out, int keys, int heads, int tiles) {
  static_assert(kKeys % kTransposed == 0);
  __shared__ uint32_t words[kTransposed][kWidth / 4 + 1];
  const int head = blockIdx.y, first = blockIdx.x * kTransposed;
  for (int i = threadIdx.x; i < kTransposed * kWidth / 4; i += blockDim.x) {
    const int key = i / (kWidth / 4), word = i % (kWidth / 4);
    words[key][word] = first + key < keys ? reinterpret_cast<const uint32_t*>(v + (static_cast<int64_t>(first + key) * heads + head) * kWidth)[word] : 0;
  }
  __syncthreads();
  const int sixteen = threadIdx.x / kWidth, row = threadIdx.x % kWidth;
  // Row 8 j + 2 t + i of a product is what thread t of four gets as its 2 j + i of 32.
  const int channel = 32 * (row / 2 % 4) + 2 * (row / 8) + row % 2;
  const auto value = [&](int key) { return words[16 * sixteen + key][channel / 4] >> 8 * (channel % 4) & 0xff; };
  uint32_t quads[4];
#pragma unroll
  for (int t = 0; t < 4; ++t) quads[t] = value(2 * t) | value(2 * t + 1) << 8 | value(2 * t + 8) << 16 | value(2 * t + 9) << 24;
  const int key = first + 16 * sixteen;
  uint8_t* to = out + (static_cast<int64_t>(head) * tiles + key / kKeys) * kKeys * kWidth + (key % kKeys / 16 * kWidth + row) * 16;
  *reinterpret_cast<uint4*>(to) = make_uint4(quads[0], quads[1], quads[2], quads[3]);
}

}  // namespace
}  // namespace longtake::cuda
