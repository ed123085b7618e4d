// Stand in for runtime/cuda/ where LONGTAKE_CUDA is off; never called (cuda::runs_kernels).
#include "runtime/cuda/guided_steps.cuh"

namespace longtake::cuda {

int guided_steps(const GuidedSteps&, Stream) { return -1; }

}  // namespace longtake::cuda
