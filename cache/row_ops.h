// What is done with the hidden states of a chunk between two rows, each in one pass: merging computed rows with cached residuals,
// and the change from frame to frame.
//
// On CUDA these run cache/cuda/, elsewhere and for widths that are no multiple of 8 plain ATen. Rows are dense [tokens, dim] of one
// floating dtype on one device. Not for autograd.
#pragma once

#include <ATen/core/Tensor.h>

namespace longtake {

// The cached residuals of a chunk (cache/residual.h). Merging writes into them.
struct CachedRows {
  at::Tensor residual;              // [tokens, dim]
  at::Tensor level;                 // [tokens] float32; undefined where one residual is kept
  at::Tensor before, before_level;  // the same of the computation before; undefined where there is none
};

// Which rows are computed, and what the others take.
struct RowMerge {
  at::Tensor fresh;       // [count, dim]; undefined for none
  at::Tensor rows;        // [count] int64, ascending: the tokens that they are
  bool predicts = false;  // along the line through both residuals; else the last one is reused
  double now = 0;         // the noise level
  double clip = 1;        // of the line's factor
};

// The chunk's complete hidden state: `fresh` where computed, else embedded + residual. Of computed rows residual and level become
// `before`, and fresh - embedded and `now` take their place. distance, where wanted, becomes [tokens] float32: of computed rows the
// Euclidean distance from what they would have been otherwise, else 0.
at::Tensor merge_rows(const at::Tensor& embedded, CachedRows& cached, const RowMerge& merge, at::Tensor* distance = nullptr);

// H_f of a token in frame f: mean|H_f - H_{f-1}| over its dimensions, as it is or over mean|H_{f-1}| + 1e-8.
enum class MotionMeasure { relative, absolute };

// hidden [frames, plane, dim] -> [frames, plane] float32: how much each token changed. The first frame is compared with `before`
// [plane, dim]; without it, it takes over the second frame's values where `repeats_second`, and else, and where there is no second, is 1.
// `absolute` is plain ATen everywhere: it is asked of latents, whose rows are short.
at::Tensor motion_rows(const at::Tensor& hidden, const at::Tensor& before, bool repeats_second, MotionMeasure measure = MotionMeasure::relative);

// The same in plain ATen on any device: what tests compare with.
namespace reference {
at::Tensor merge_rows(const at::Tensor& embedded, CachedRows& cached, const RowMerge& merge, at::Tensor* distance = nullptr);
at::Tensor motion_rows(const at::Tensor& hidden, const at::Tensor& before, bool repeats_second, MotionMeasure measure = MotionMeasure::relative);
}  // namespace reference

}  // namespace longtake
