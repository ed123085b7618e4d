#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "base/cuda.h"
#include "base/error.h"

namespace longtake::cuda {

bool built() { return true; }

bool runs_kernels(const at::Tensor& x) { return x.is_cuda(); }

int capability(const at::Tensor& x) {
  if (!x.is_cuda()) return 0;
  int major = 0, minor = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, x.get_device()) != cudaSuccess) return 0;
  if (cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, x.get_device()) != cudaSuccess) return 0;
  return 10 * major + minor;
}

Launch::Launch(const at::Tensor& on, const char* op)
    : guard_(on.device()), op_(op), stream_(c10::cuda::getCurrentCUDAStream(on.get_device()).stream()) {}

void Launch::check(int status) const {
  const auto error = static_cast<cudaError_t>(status);
  LONGTAKE_CHECK(error == cudaSuccess, "the CUDA kernel {} could not be launched: {} ({})", op_,
                 cudaGetErrorString(error), cudaGetErrorName(error));
}

}  // namespace longtake::cuda
