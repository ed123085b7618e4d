// Stand in for cache/cuda/ where LONGTAKE_CUDA is off; never called (cuda::runs_kernels).
#include "cache/cuda/merge_rows.cuh"
#include "cache/cuda/motion_rows.cuh"

namespace longtake::cuda {

int merge_rows(const MergeRows&, Stream) { return -1; }
int motion_rows(const MotionRows&, Stream) { return -1; }

}  // namespace longtake::cuda
