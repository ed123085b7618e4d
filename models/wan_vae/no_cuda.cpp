// Stands in for models/wan_vae/cuda/ where LONGTAKE_CUDA is off; never called (cuda::runs_kernels).
#include "models/wan_vae/cuda/pixel_norm.cuh"

namespace longtake::cuda {

int pixel_norm(const PixelNorm&, Stream) { return -1; }

}  // namespace longtake::cuda
