// Stands in for base/cuda/ where LONGTAKE_CUDA is off.
#include "base/cuda.h"
#include "base/error.h"

namespace longtake::cuda {

bool built() { return false; }

bool runs_kernels(const at::Tensor&) { return false; }

int capability(const at::Tensor&) { return 0; }

Launch::Launch(const at::Tensor& on, const char* op) : guard_(on.device()), op_(op), stream_(nullptr) {}

void Launch::check(int) const { LONGTAKE_CHECK(false, "this build has no CUDA kernel {}", op_); }

}  // namespace longtake::cuda
