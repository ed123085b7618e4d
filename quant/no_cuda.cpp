// Stand in for quant/cuda/ where LONGTAKE_CUDA is off; never called (cuda::runs_kernels).
#include "quant/cuda/quantise_rows.cuh"

namespace longtake::cuda {

int quantise_rows(const QuantiseRows&, Stream) { return -1; }

}  // namespace longtake::cuda
