// Stand in for models/ops/cuda/ where LONGTAKE_CUDA is off; never called (cuda::runs_kernels).
#include "models/ops/cuda/residual_norm.cuh"

namespace longtake::cuda {

int residual_norm(const ResidualNorm&, Stream) { return -1; }

}  // namespace longtake::cuda
