// The transformer that MAGI-1's VAE has twice, in its encoder and its decoder: full attention over all tokens of a clip
// or tile and one class token, with learned positions that stretch to any grid.
//
// Weights are immutable and calls are const and differentiable. Everything is in the weights' dtype but the norms and
// the position table, which are float32. Source: magi1.md section 4.3.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <string>
#include <vector>

#include "models/magi_vae/config.h"
#include "quant/linear.h"

namespace longtake {

class WeightSource;

class MagiVaeTransformer {
 public:
  // `coder` is "encoder" or "decoder". round_qkv: q, k and v are rounded to bfloat16 before attention,
  // whatever the weights' dtype.
  MagiVaeTransformer(WeightSource& source, const MagiVaeConfig& config, const std::string& coder, bool round_qkv);

  // tokens [B, t*h*w, dim] ordered (t, h, w) -> the same shape in float32, normed, without the class token.
  at::Tensor operator()(const at::Tensor& tokens, std::array<int64_t, 3> grid) const;

 private:
  struct Norm {
    at::Tensor weight, bias;
    at::Tensor operator()(const at::Tensor& x) const;  // float32
  };
  struct Block {
    Linear qkv, proj;
    Norm norm2;  // the attention's input is not normed; q, k and v are
    Linear fc1, fc2;
  };

  static Norm take_norm(WeightSource& source, const std::string& name, int64_t dim);
  at::Tensor positions(std::array<int64_t, 3> grid) const;  // [1, 1 + t*h*w, dim]
  at::Tensor attend_all(const Block& block, const at::Tensor& x) const;

  MagiVaeConfig config_;
  bool round_qkv_;
  at::Tensor class_token_, positions_;  // [1, 1, dim], [1, 1 + positions, dim]
  std::vector<Block> blocks_;
  Norm norm_;
};

}  // namespace longtake
