// Latents as one row for each token: the patch that it stands for. A permutation, in both directions.
#pragma once

#include <ATen/core/Tensor.h>

namespace longtake {

// latents [C, F, h, w] -> [F*(h/2)*(w/2), C*4], in the tokens' order: frame, row, column.
at::Tensor patch_rows(const at::Tensor& latents);

// Back to [C, frames, height, width].
at::Tensor from_patch_rows(const at::Tensor& rows, int64_t frames, int64_t height, int64_t width);

}  // namespace longtake
