// Stand in for attention/cuda/ where LONGTAKE_CUDA is off; never called (cuda::runs_kernels).
#include "attention/cuda/flash.cuh"
#include "attention/cuda/qkv_rows.cuh"

namespace longtake::cuda {

size_t flash_workspace(const FlashAttention&, const FlashSequence*, size_t) { return 0; }
int flash_attention(const FlashAttention&, const FlashSequence*, size_t, void*, Stream) { return -1; }
int qkv_rows(const QkvRows&, Stream) { return -1; }
int rms_rows(const RmsRows&, Stream) { return -1; }

}  // namespace longtake::cuda
