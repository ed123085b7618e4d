#include "attention/fp8_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include <cmath>

#include "attention/stacked.h"
#include "base/cuda.h"
#include "base/error.h"
#include "base/upload.h"

namespace longtake {
namespace {

constexpr double kE4m3Max = 448;
constexpr int64_t kAlignment = 16;

at::Tensor to_e4m3(const at::Tensor& x) { return x.clamp(-kE4m3Max, kE4m3Max).to(at::kFloat8_e4m3fn); }

void check(const Sequence& s) {
  LONGTAKE_CHECK(s.q.dim() == 3 && s.k.dim() == 3 && s.k.sizes() == s.v.sizes() && s.q.size(1) == s.k.size(1) && s.q.size(2) == s.k.size(2) &&
                     s.k.size(0) > 0,
                 "expected q [n, heads, width] and k, v [rows, heads, width] with rows, found [{}], [{}] and [{}]",
                 fmt::join(s.q.sizes(), ", "), fmt::join(s.k.sizes(), ", "), fmt::join(s.v.sizes(), ", "));
  for (const at::Tensor* x : {&s.q, &s.k, &s.v})
    LONGTAKE_CHECK(x->scalar_type() == at::kFloat8_e4m3fn && x->is_contiguous(), "expected dense e4m3 queries, keys and values, found {}",
                   c10::toString(x->scalar_type()));
  LONGTAKE_CHECK(!s.bias.defined(), "expected no bias with attention in fp8");
}

bool aligned(const at::Tensor& x) {
  return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % kAlignment == 0 && x.stride(0) % kAlignment == 0;
}

}  // namespace

Fp8Attention::Fp8Attention(const at::Device& device) : device_(device) {
  if (!device.is_cuda()) {
    why_not_ = "it needs a GPU";
    return;
  }
  const auto floats = at::TensorOptions().dtype(at::kFloat);
  unused_ = at::empty({2}, floats.device(device));
  constants_ = upload(at::tensor(at::ArrayRef<float>(cudnn::kConstants), floats), device);
  try {
    const cuda::Launch launch(unused_, "opening cuDNN");  // a handle belongs to the current device
    cudnn_ = cudnn::open_sdpa();
  } catch (const std::exception& error) {
    why_not_ = error.what();
  }
}

const std::string& Fp8Attention::try_out(int64_t heads, int64_t width) {
  if (!cudnn_) return why_not_;
  // Two sequences that overlap, ragged keys, and sizes near what RMS norms leave.
  const auto random = [&](int64_t rows) {
    return to_e4m3(at::randn({rows, heads, width}, at::TensorOptions().dtype(at::kFloat).device(device_)));
  };
  const at::Tensor q = random(512), k = random(1777), v = random(1777);
  std::vector<Sequence> sequences;
  for (int64_t i = 0; i < 2; ++i)
    sequences.push_back({q.narrow(0, 256 * i, 256), k.narrow(0, 1000 * i, 777), v.narrow(0, 1000 * i, 777), {}});
  const auto refusal = std::move(on_refusal);
  on_refusal = [&](const std::string& why) { why_not_ = why; };
  try {
    const std::vector<at::Tensor> got = together(sequences);
    for (size_t i = 0; why_not_.empty() && i < sequences.size(); ++i) {
      const at::Tensor want = reference::attend_fp8(sequences[i].q, sequences[i].k, sequences[i].v).to(at::kFloat);
      const double error = ((got[i].to(at::kFloat) - want).norm() / want.norm()).item<double>();
      if (!(error < 0.1)) why_not_ = fmt::format("cuDNN's results differ from the reference by {:.3f}", error);
    }
  } catch (const std::exception& error) {
    why_not_ = error.what();
  }
  on_refusal = refusal;
  if (!why_not_.empty()) cudnn_.reset();
  return why_not_;
}

std::vector<at::Tensor> Fp8Attention::together(std::span<const Sequence> sequences) {
  for (const Sequence& s : sequences) check(s);
  const at::Tensor q = stacked(sequences, &Sequence::q), k = stacked(sequences, &Sequence::k), v = stacked(sequences, &Sequence::v);
  if (cudnn_ && q.defined() && k.defined() && v.defined() && k.stride(0) == v.stride(0)) {
    const at::Tensor out = on_cudnn(q, k, v);
    if (out.defined()) return out.unbind(0);
  } else if (cudnn_ && sequences.size() > 1) {
    std::vector<at::Tensor> out;
    for (const Sequence& s : sequences) out.push_back(together({&s, 1}).front());
    return out;
  }
  std::vector<at::Tensor> out;
  for (const Sequence& s : sequences) out.push_back(reference::attend_fp8(s.q, s.k, s.v));
  return out;
}

at::Tensor Fp8Attention::on_cudnn(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t heads = q.size(2), width = q.size(3);
  const cudnn::SdpaShape shape{.element = cudnn::Element::e4m3, .sequences = q.size(0), .heads = heads, .width = width, .queries = q.size(1), .keys = k.size(1),
                               .query_stride = q.stride(0), .key_stride = k.stride(0),
                               .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(width)))};
  if (refused_.contains(shape)) return {};
  try {
    if (width % kAlignment != 0 || !aligned(q) || !aligned(k) || !aligned(v))
      throw std::runtime_error(fmt::format("heads of {} channels, or tensors that do not begin at multiples of {} bytes", width, kAlignment));
    const cuda::Launch launch(q, "attention in fp8");
    const auto bytes = at::TensorOptions().dtype(at::kByte).device(q.device());
    const at::Tensor workspace = at::empty({cudnn_->prepare(shape)}, bytes);
    at::Tensor out = at::empty({q.size(0), q.size(1), heads, width}, q.options());
    cudnn_->run(shape,
                {.q = q.const_data_ptr(), .k = k.const_data_ptr(), .v = v.const_data_ptr(), .out = out.data_ptr(),
                 .constants = constants_.const_data_ptr<float>(), .unused = unused_.data_ptr<float>(), .workspace = workspace.data_ptr()},
                launch.stream());
    return out;
  } catch (const std::exception& error) {
    if (refused_.empty() && on_refusal)
      on_refusal(fmt::format("attention in fp8 of {} queries on {} keys: {}", shape.queries, shape.keys, error.what()));
    refused_.insert(shape);
    return {};
  }
}

namespace reference {

at::Tensor attend_fp8(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const at::ScalarType wide = q.is_cuda() ? at::kBFloat16 : at::kFloat;
  return to_e4m3(attend(q.to(wide), k.to(wide), v.to(wide)).contiguous());
}

}  // namespace reference
}  // namespace longtake
