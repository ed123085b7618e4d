// Between tensors and our CUDA kernels: whether there are any, the stream to launch on, and what a launcher answered.
//
// A build without LONGTAKE_CUDA has no kernels, yet may meet CUDA tensors where LibTorch is a CUDA build: ops then run
// their ATen reference on them.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>

#include "base/cuda/kernel.h"

namespace longtake::cuda {

// Whether this build has kernels.
bool built();

// Whether it has and this tensor lies where they run.
bool runs_kernels(const at::Tensor& x);

// Compute capability of the tensor's device times ten (90 for Hopper); 0 for a CPU tensor or without kernels.
int capability(const at::Tensor& x);

// f32, f16 or bf16; any other dtype is an Error (internal).
Float float_type(const at::Tensor& x);

// Makes the tensor's device current while it lives and knows that device's current stream.
class Launch {
 public:
  Launch(const at::Tensor& on, const char* op);
  Stream stream() const { return stream_; }
  // Error (internal) that names the op unless the launcher answered 0.
  void check(int status) const;

 private:
  c10::DeviceGuard guard_;
  const char* op_;
  Stream stream_;
};

}  // namespace longtake::cuda
