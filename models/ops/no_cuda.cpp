// Stand in for models/ops/cuda/ where LONGTAKE_CUDA is off; never called (cuda::runs_kernels).
#include "models/ops/cuda/gated_norm.cuh"
#include "models/ops/cuda/head_norm.cuh"
#include "models/ops/cuda/residual_norm.cuh"
#include "models/ops/cuda/swiglu.cuh"

namespace longtake::cuda {

int gated_norm(const GatedNorm&, Stream) { return -1; }
int head_norm(const HeadNorm&, Stream) { return -1; }
int residual_norm(const ResidualNorm&, Stream) { return -1; }
int swiglu(const Swiglu&, Stream) { return -1; }

}  // namespace longtake::cuda
