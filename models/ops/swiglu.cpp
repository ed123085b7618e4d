#include "models/ops/swiglu.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/silu.h>

#include "base/cuda.h"
#include "base/error.h"
#include "models/ops/cuda/swiglu.cuh"
#include "models/ops/row_checks.h"

namespace longtake {

at::Tensor swiglu(const at::Tensor& x) {
  LONGTAKE_CHECK(x.dim() == 2 && x.size(1) % 2 == 0 && is_row_dtype(x.scalar_type()), "expected rows [n, 2 * width] of a floating dtype, found [{}] {}",
                 fmt::join(x.sizes(), ", "), c10::toString(x.scalar_type()));
  const int64_t width = x.size(1) / 2;
  if (!cuda::runs_kernels(x) || width == 0 || width % cuda::kRowStep != 0 || !dense_aligned({x}) || records_gradient({x}))
    return reference::swiglu(x);
  at::Tensor out = at::empty({x.size(0), width}, x.options());
  cuda::Swiglu p;
  p.rows = x.size(0);
  p.width = width;
  p.type = cuda::float_type(x);
  p.x = x.const_data_ptr();
  p.out = out.data_ptr();
  const cuda::Launch launch(x, "swiglu");
  launch.check(cuda::swiglu(p, launch.stream()));
  return out;
}

namespace reference {

at::Tensor swiglu(const at::Tensor& x) {
  const int64_t width = x.size(1) / 2;
  const at::Tensor wide = x.to(at::kFloat);
  return (at::silu(wide.narrow(1, 0, width)) * wide.narrow(1, width, width)).to(x.scalar_type());
}

}  // namespace reference
}  // namespace longtake
