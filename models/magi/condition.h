// The vector that conditions MAGI-1's gates: timestep, step size of distilled models, and whether there is a text.
// Spec: magi1.md 2.4. Its weights and sums are float32.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/magi/config.h"
#include "models/weights/source.h"
#include "quant/linear.h"

namespace longtake::magi {

class Condition {
 public:
  Condition() = default;
  // `dtype`: the working dtype of the model. The null caption [caption_length, caption_dim] is the one of the text side
  // too.
  Condition(WeightSource& source, const ModelConfig& config, const at::Tensor& null_caption, at::ScalarType dtype);

  // times [n] float32 (timesteps 0 ... 1, or step sizes dt) -> [n, condition_dim] float32.
  at::Tensor embed(const at::Tensor& times) const;

  // One row for each of n chunks, [n, condition_dim] in the working dtype. step_sizes [n], or undefined for models that
  // are not distilled. null_text [n], 0 or 1: which of two learned rows stands for the text; captions play no part.
  at::Tensor operator()(const at::Tensor& timesteps, const at::Tensor& step_sizes, const at::Tensor& null_text) const;

  void to(const at::Device& device);
  int64_t weight_bytes() const;

 private:
  Linear in_, out_;
  at::Tensor frequencies_;  // of the sinusoid, [128] float32
  at::Tensor text_rows_;    // [2, condition_dim] float32: with text, without
  at::ScalarType dtype_ = at::kFloat;
};

}  // namespace longtake::magi
