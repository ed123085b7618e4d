// What every launcher's header needs; knows neither Torch nor the CUDA toolkit, so that plain C++ can include it.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace longtake::cuda {

using Stream = CUstream_st*;  // cudaStream_t

enum class Float { f32, f16, bf16 };

// Launchers return a cudaError_t as int: 0 where the launch was accepted. Sizes that a kernel was not built for are
// refused with cudaErrorInvalidValue; ops ask `row_fits` first.

// Kernels that hold a row in one warp's registers: values are read eight at a time, 20 such steps at most.
constexpr int64_t kRowStep = 8, kRowMax = 20 * 32 * kRowStep;
constexpr bool row_fits(int64_t width) { return width > 0 && width % kRowStep == 0 && width <= kRowMax; }

}  // namespace longtake::cuda
