#include "base/cuda.h"

#include "base/error.h"

namespace longtake::cuda {

Float float_type(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat:
      return Float::f32;
    case at::kHalf:
      return Float::f16;
    case at::kBFloat16:
      return Float::bf16;
    default:
      fail(ExitCode::internal, "expected float32, float16 or bfloat16, found {}", c10::toString(x.scalar_type()));
  }
}

}  // namespace longtake::cuda
