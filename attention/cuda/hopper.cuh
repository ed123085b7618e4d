// What Hopper's asynchronous machinery looks like from C++: barriers in shared memory, the tensor memory accelerator, and products of
// a group of four warps (PTX ISA, "mbarrier", "cp.async.bulk", "wgmma").
#pragma once

#include <cuda.h>

#include <cstdint>

namespace longtake::cuda::hopper {

// ----------------------------------------------------------------------------------------------------------------------
// Barriers in shared memory, by address

__device__ __forceinline__ uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void init_barrier(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ __forceinline__ void arrive(uint32_t barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }

// Arrives and makes the barrier wait for so many bytes of copies.
__device__ __forceinline__ void arrive_expecting(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Waits for the end of the phase of this parity; the phase before the first counts as ended, with parity 1.
__device__ __forceinline__ void wait(uint32_t barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "AGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra DONE;\nbra AGAIN;\nDONE:\n}\n" ::"r"(barrier), "r"(parity)
      : "memory");
}

// ----------------------------------------------------------------------------------------------------------------------
// Copies into shared memory that a barrier counts

__device__ __forceinline__ void copy_box(uint32_t to, const CUtensorMap* map, uint32_t barrier, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
               "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z)
               : "memory");
}

__device__ __forceinline__ void copy_bytes(uint32_t to, const void* from, int bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes),
               "r"(barrier)
               : "memory");
}

// ----------------------------------------------------------------------------------------------------------------------
// Products of four warps

// How a matrix lies in shared memory: in cells of 8 rows of 16 bytes, either packed or as the accelerator swizzles rows of 128 bytes.
enum class Swizzle : uint64_t { none = 0, bytes_128 = 1 };

// `lead` and `stride`: bytes between cells (PTX ISA, "leading dimension byte offset", "stride dimension byte offset").
template <Swizzle kSwizzle>
__device__ __forceinline__ uint64_t matrix(uint32_t address, int lead, int stride) {
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) | static_cast<uint64_t>(lead >> 4) << 16 | static_cast<uint64_t>(stride >> 4) << 32 |
         static_cast<uint64_t>(kSwizzle) << 62;
}

__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most so many commits are unfinished.
template <int kPending>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Holds the values' last use before this point and their next one behind it: the compiler does not know that products run beside it.
template <int kCount>
__device__ __forceinline__ void pin(float (&x)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(x[i])::"memory");
}

#define LT_TEN(t) "%" #t "0,%" #t "1,%" #t "2,%" #t "3,%" #t "4,%" #t "5,%" #t "6,%" #t "7,%" #t "8,%" #t "9,"
#define LT_REGISTERS_64 LT_TEN() LT_TEN(1) LT_TEN(2) LT_TEN(3) LT_TEN(4) LT_TEN(5) "%60,%61,%62,%63"
#define LT_REGISTERS_88 LT_TEN() LT_TEN(1) LT_TEN(2) LT_TEN(3) LT_TEN(4) LT_TEN(5) LT_TEN(6) LT_TEN(7) "%80,%81,%82,%83,%84,%85,%86,%87"
#define LT_REGISTERS_112 \
  LT_TEN() LT_TEN(1) LT_TEN(2) LT_TEN(3) LT_TEN(4) LT_TEN(5) LT_TEN(6) LT_TEN(7) LT_TEN(8) LT_TEN(9) LT_TEN(10) "%110,%111"
#define LT_EIGHT(d, i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define LT_OPERANDS_64(d) \
  LT_EIGHT(d, 0), LT_EIGHT(d, 8), LT_EIGHT(d, 16), LT_EIGHT(d, 24), LT_EIGHT(d, 32), LT_EIGHT(d, 40), LT_EIGHT(d, 48), LT_EIGHT(d, 56)
#define LT_OPERANDS_88(d) LT_OPERANDS_64(d), LT_EIGHT(d, 64), LT_EIGHT(d, 72), LT_EIGHT(d, 80)
#define LT_OPERANDS_112(d) LT_OPERANDS_88(d), LT_EIGHT(d, 88), LT_EIGHT(d, 96), LT_EIGHT(d, 104)

// d = a b, or d += a b: d [64, n], a [64, k] and b [n, k] in shared memory. Of d a thread holds, for row lane / 4 of its warp's sixteen (and the
// one 8 below) columns 8 j + 2 (lane % 4) + {0, 1} as d[4 j + {0, 1}] (below: {2, 3}).
#define LT_PRODUCT_SHARED(name, n, k, type, count, a_at, b_at, add_at, majors)                                                               \
  __device__ __forceinline__ void name(float (&d)[count], uint64_t a, uint64_t b, int add) {                                              \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" #add_at ", 0;\n"                                                                 \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k" #k ".f32." #type "." #type " {" LT_REGISTERS_##count "}, %" #a_at ", %" #b_at      \
                 ", add, 1, 1" majors ";\n}\n"                                                                                             \
                 : LT_OPERANDS_##count(d)                                                                                                 \
                 : "l"(a), "l"(b), "r"(add));                                                                                            \
  }

// The same with a in registers: a[0] holds row lane / 4 at the 4 bytes 4 (lane % 4) of 32, a[1] the row 8 below, a[2] and a[3] these rows 16 bytes on.
#define LT_PRODUCT_REGISTERS(name, n, k, type, majors)                                                                                   \
  __device__ __forceinline__ void name(float (&d)[64], const uint32_t* a, uint64_t b, int add) {                                         \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %69, 0;\n"                                                                          \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k" #k ".f32." #type "." #type " {" LT_REGISTERS_64 "}, {%64,%65,%66,%67}, %68, "      \
                 "add, 1, 1" majors ";\n}\n"                                                                                               \
                 : LT_OPERANDS_64(d)                                                                                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));                                                         \
  }

LT_PRODUCT_SHARED(multiply_bf16, 176, 16, bf16, 88, 88, 89, 90, ", 0, 0")
LT_PRODUCT_SHARED(multiply_f16, 176, 16, f16, 88, 88, 89, 90, ", 0, 0")
LT_PRODUCT_SHARED(multiply_e4m3, 224, 32, e4m3, 112, 112, 113, 114, "")
// b [k, n]: transposed on the way.
LT_PRODUCT_REGISTERS(multiply_bf16, 128, 16, bf16, ", 1")
LT_PRODUCT_REGISTERS(multiply_f16, 128, 16, f16, ", 1")
LT_PRODUCT_REGISTERS(multiply_e4m3, 128, 32, e4m3, "")

#undef LT_PRODUCT_REGISTERS
#undef LT_PRODUCT_SHARED
#undef LT_OPERANDS_112
#undef LT_OPERANDS_88
#undef LT_OPERANDS_64
#undef LT_EIGHT
#undef LT_REGISTERS_112
#undef LT_REGISTERS_88
#undef LT_REGISTERS_64
#undef LT_TEN

}  // namespace longtake::cuda::hopper
