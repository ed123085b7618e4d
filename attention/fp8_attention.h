// Attention over queries, keys and values in 8-bit floats (e4m3), with a result in e4m3: what feeds a product in fp8 (quant/fp8.h) without
// being rounded again.
//
// Every tensor is taken for its e4m3 values alone. A factor on the values passes through to the result, so that scales of values stay
// with the caller (out is attention / v_scale), one for each sequence if need be, and saturation cannot occur: a result is a mean of
// values. There are no scales by head, because cuDNN takes one number a tensor.
//
// Runs through cuDNN on Hopper and newer (attention/cudnn), with softmax in float32 and its weights rounded to e4m3. Everywhere else, and
// for shapes that cuDNN refuses, the reference: e4m3 is exact in bfloat16 and float32, and attend() does the rest.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "attention/attend.h"
#include "attention/cudnn/sdpa.h"

namespace longtake {

// Holds the plans that cuDNN makes for each shape, so one object should live as long as the model. One thread at a time.
class Fp8Attention {
 public:
  explicit Fp8Attention(const at::Device& device);

  // Tries cuDNN on a small case against the reference, and waits for it. Returns why cuDNN cannot be used, or "". Once it cannot, every
  // call takes the reference.
  const std::string& try_out(int64_t heads, int64_t width);

  // Attention of each sequence over all of its keys: q [n, heads, width], k, v [rows, heads, width] e4m3, dense, no bias -> [n, heads, width]
  // e4m3, dense. In one call where sequences lie as attend_together wants it. Waits for nothing.
  std::vector<at::Tensor> together(std::span<const Sequence> sequences);

  // Hears once of a shape that cuDNN refused after all, with its words: results stay right, that shape is slow.
  std::function<void(const std::string&)> on_refusal;

 private:
  // Undefined where cuDNN has refused this shape, now or before.
  at::Tensor on_cudnn(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

  at::Device device_;
  std::unique_ptr<cudnn::Sdpa> cudnn_;
  std::string why_not_;
  at::Tensor constants_, unused_;
  std::set<cudnn::SdpaShape> refused_;
};

namespace reference {
// One sequence. The weights of softmax are not rounded.
at::Tensor attend_fp8(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);
}  // namespace reference

}  // namespace longtake
