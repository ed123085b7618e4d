#include "attention/flash.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <optional>

#include "attention/cuda/flash.cuh"
#include "base/cuda.h"
#include "base/error.h"

namespace longtake {
namespace {

bool dense(const at::Tensor& x) { return x.is_contiguous() && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0; }

std::optional<cuda::FlashElement> element_of(at::ScalarType dtype) {
  if (dtype == at::kBFloat16) return cuda::FlashElement::bf16;
  if (dtype == at::kHalf) return cuda::FlashElement::f16;
  if (dtype == at::kFloat8_e4m3fn) return cuda::FlashElement::e4m3;
  return {};
}

}  // namespace

bool flash_takes(const Sequence& s) {
  return cuda::capability(s.q) == 90 && element_of(s.q.scalar_type()) && s.q.scalar_type() == s.k.scalar_type() && s.k.scalar_type() == s.v.scalar_type() &&
         s.q.device() == s.k.device() && s.k.device() == s.v.device() && !s.bias.defined() && s.q.dim() == 3 && s.k.dim() == 3 &&
         s.k.sizes() == s.v.sizes() && s.q.size(2) == cuda::kFlashWidth && s.k.size(2) == cuda::kFlashWidth && s.q.size(0) > 0 && s.k.size(0) > 0 &&
         s.k.size(1) > 0 && s.q.size(1) > 0 && s.q.size(1) % s.k.size(1) == 0 && dense(s.q) && dense(s.k) && dense(s.v);
}

void flash_attend_into(std::span<const at::Tensor> out, std::span<const Sequence> sequences) {
  LONGTAKE_CHECK(!sequences.empty() && out.size() == sequences.size(), "expected sequences to attend and a result for each, found {} and {}", sequences.size(),
                 out.size());
  const at::Tensor& first = sequences[0].q;
  LONGTAKE_CHECK(first.dim() == 3 && sequences[0].k.dim() == 3, "expected queries and keys of 3 dimensions [rows, heads, width], found {} and {}", first.dim(),
                 sequences[0].k.dim());
  const int64_t heads = first.size(1), key_heads = sequences[0].k.size(1);
  std::vector<cuda::FlashSequence> pointers;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& s = sequences[i];
    LONGTAKE_CHECK(flash_takes(s) && s.q.scalar_type() == first.scalar_type() && s.q.device() == first.device() && s.q.size(1) == heads &&
                       s.k.size(1) == key_heads,
                   "expected sequences of {} and {} heads of {} that our kernel takes, found {} and {} of {}", heads, key_heads,
                   c10::toString(first.scalar_type()), s.q.size(1), s.k.size(1), c10::toString(s.q.scalar_type()));
    LONGTAKE_CHECK(out[i].sizes() == s.q.sizes() && out[i].scalar_type() == s.q.scalar_type() && out[i].device() == s.q.device() && dense(out[i]),
                   "expected a dense result [{}] of {}, found [{}] of {}", fmt::join(s.q.sizes(), ", "), c10::toString(s.q.scalar_type()),
                   fmt::join(out[i].sizes(), ", "), c10::toString(out[i].scalar_type()));
    pointers.push_back({.q = s.q.const_data_ptr(), .k = s.k.const_data_ptr(), .v = s.v.const_data_ptr(), .out = out[i].data_ptr(), .queries = s.q.size(0),
                        .keys = s.k.size(0)});
  }
  const cuda::FlashAttention attention{.element = *element_of(first.scalar_type()), .heads = heads, .key_heads = key_heads};
  const cuda::Launch launch(first, "attention");
  at::Tensor workspace;
  const size_t bytes = cuda::flash_workspace(attention, pointers.data(), pointers.size());
  if (bytes > 0) workspace = at::empty({static_cast<int64_t>(bytes)}, first.options().dtype(at::kByte));
  launch.check(cuda::flash_attention(attention, pointers.data(), pointers.size(), bytes > 0 ? workspace.data_ptr() : nullptr, launch.stream()));
}

std::vector<at::Tensor> flash_attend(std::span<const Sequence> sequences) {
  std::vector<at::Tensor> out;
  for (const Sequence& s : sequences) out.push_back(at::empty_like(s.q));
  flash_attend_into(out, sequences);
  return out;
}

}  // namespace longtake
