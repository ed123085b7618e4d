// Stand in for attention/cuda/ where LONGTAKE_CUDA is off; never called (cuda::runs_kernels).
#include "attention/cuda/qkv_rows.cuh"

namespace longtake::cuda {

int qkv_rows(const QkvRows&, Stream) { return -1; }
int rms_rows(const RmsRows&, Stream) { return -1; }

}  // namespace longtake::cuda
