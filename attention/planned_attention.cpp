#include "attention/planned_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "attention/flash.h"
#include "attention/stacked.h"
#include "base/cuda.h"
#include "base/error.h"
#include "base/upload.h"

namespace longtake {
namespace {

constexpr double kE4m3Max = 448;
constexpr int64_t kAlignment = 16;
// In one call; more are called one by one. As many counts are 16 bytes, which is what cuDNN's pointers are multiples of.
constexpr int64_t kSequences = 4;

bool in_e4m3(const at::Tensor& x) { return x.scalar_type() == at::kFloat8_e4m3fn; }

at::Tensor rounded(const at::Tensor& x, at::ScalarType dtype) {
  return dtype == at::kFloat8_e4m3fn ? x.clamp(-kE4m3Max, kE4m3Max).to(dtype) : x.to(dtype);
}

cudnn::Element element_of(at::ScalarType dtype) {
  if (dtype == at::kFloat8_e4m3fn) return cudnn::Element::e4m3;
  return dtype == at::kHalf ? cudnn::Element::f16 : cudnn::Element::bf16;
}

// Rows that the memory of x holds from its first on.
int64_t rows_behind(const at::Tensor& x) {
  const auto elements = static_cast<int64_t>(x.storage().nbytes() / x.element_size()) - x.storage_offset();
  return elements / (x.size(1) * x.size(2));
}

// (What attend() does not check itself.)
void check(const Sequence& s, int64_t key_room) {
  LONGTAKE_CHECK(s.q.dim() == 3 && s.k.dim() == 3 && s.v.dim() == 3, "expected queries, keys and values of 3 dimensions [rows, heads, width], found {}, {}, {}",
                 s.q.dim(), s.k.dim(), s.v.dim());
  LONGTAKE_CHECK(key_room == 0 || (key_room >= s.k.size(0) && rows_behind(s.k) >= key_room && rows_behind(s.v) >= key_room),
                 "expected memory for {} rows of keys and values, found {} and {} of {}", key_room, rows_behind(s.k), rows_behind(s.v), s.k.size(0));
  if (!in_e4m3(s.q) && !in_e4m3(s.k) && !in_e4m3(s.v)) return;
  LONGTAKE_CHECK(s.k.sizes() == s.v.sizes() && s.q.size(1) == s.k.size(1) && s.q.size(2) == s.k.size(2) && s.k.size(0) > 0,
                 "expected q [n, heads, width] and k, v [rows, heads, width] with rows, found [{}], [{}] and [{}]", fmt::join(s.q.sizes(), ", "),
                 fmt::join(s.k.sizes(), ", "), fmt::join(s.v.sizes(), ", "));
  for (const at::Tensor* x : {&s.q, &s.k, &s.v})
    LONGTAKE_CHECK(in_e4m3(*x) && x->is_contiguous(), "expected dense e4m3 queries, keys and values, found {}", c10::toString(x->scalar_type()));
  LONGTAKE_CHECK(!s.bias.defined(), "expected no bias with attention in fp8");
}

// Whether the plans are for such sequences.
bool plannable(const Sequence& s) {
  return !s.bias.defined() && s.k.size(1) > 0 && s.q.size(1) % s.k.size(1) == 0 && s.q.size(2) == s.k.size(2) &&
         s.k.sizes() == s.v.sizes() && s.q.scalar_type() == s.k.scalar_type() &&
         s.q.size(0) > 0 && s.k.size(0) > 0;
}

bool aligned(const at::Tensor& x) {
  const auto size = static_cast<int64_t>(x.element_size());
  return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % kAlignment == 0 && x.stride(0) * size % kAlignment == 0;
}

std::vector<at::Tensor> by_reference(std::span<const Sequence> sequences) {
  if (!in_e4m3(sequences.front().q)) return attend_together(sequences);
  std::vector<at::Tensor> out;
  for (const Sequence& s : sequences) out.push_back(reference::attend_fp8(s.q, s.k, s.v));
  return out;
}

// To try kernels with: sizes near what RMS norms leave, the norm of a result's difference over that of the right one, and how large it may be.
at::Tensor random(int64_t rows, int64_t heads, int64_t width, at::ScalarType dtype, const at::Device& device) {
  return rounded(at::randn({rows, heads, width}, at::TensorOptions().dtype(at::kFloat).device(device)), dtype);
}
double error_of(const at::Tensor& got, const at::Tensor& right) {
  const at::Tensor want = right.to(at::kFloat);
  return ((got.to(at::kFloat) - want).norm() / want.norm()).item<double>();
}
double allowed(at::ScalarType dtype) { return dtype == at::kFloat8_e4m3fn ? 0.1 : 0.02; }

}  // namespace

PlannedAttention::PlannedAttention(const at::Device& device, Kernels kernels) : device_(device), kernels_(kernels) {
  if (!device.is_cuda()) closed_ = "it needs a GPU";
}

void PlannedAttention::open_cudnn() {
  if (cudnn_ || !closed_.empty()) return;
  const auto floats = at::TensorOptions().dtype(at::kFloat);
  unused_ = at::empty({2}, floats.device(device_));
  constants_ = upload(at::tensor(at::ArrayRef<float>(cudnn::kConstants), floats), device_);
  try {
    const cuda::Launch launch(unused_, "opening cuDNN");  // a handle belongs to the current device
    cudnn_ = cudnn::open_sdpa();
  } catch (const std::exception& error) {
    closed_ = error.what();
  }
}

const std::string& PlannedAttention::try_out(at::ScalarType dtype, int64_t heads, int64_t width, int64_t key_heads) {
  if (key_heads == 0) key_heads = heads;
  static const std::string none;
  flash_.erase(dtype);
  tried_.erase(dtype);
  if (flash_works(dtype, heads, width, key_heads)) {
    flash_.insert(dtype);
    return none;
  }
  open_cudnn();
  tried_[dtype] = "";  // so that calls take cuDNN
  return tried_[dtype] = cudnn_ ? tried(dtype, heads, width, key_heads) : closed_;
}

bool PlannedAttention::flash_works(at::ScalarType dtype, int64_t heads, int64_t width, int64_t key_heads) try {
  if (kernels_ == Kernels::cudnn || !device_.is_cuda()) return false;
  std::vector<Sequence> sequences;
  for (const int64_t keys : {1, 300, 2500}) {
    const at::Tensor k = random(keys, key_heads, width, dtype, device_), v = random(keys, key_heads, width, dtype, device_);
    sequences.push_back({random(200, heads, width, dtype, device_), k, v, {}});
    if (!flash_takes(sequences.back())) return false;
  }
  const std::vector<at::Tensor> got = flash_attend(sequences);
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = error_of(got[i], by_reference({&sequences[i], 1}).front());
    if (error < allowed(dtype)) continue;
    slower_because_ = fmt::format("its results differ from the reference by {:.3f}; is this a build for sm_90a?", error);
    return false;
  }
  return true;
} catch (const std::exception& error) {
  slower_because_ = error.what();
  return false;
}

std::string PlannedAttention::tried(at::ScalarType dtype, int64_t heads, int64_t width, int64_t key_heads) {
  refused_.clear();  // only the first refusal is told
  if (dtype != at::kFloat8_e4m3fn) {
    if (dtype != at::kBFloat16 && dtype != at::kHalf) return fmt::format("it has no plans for {}", c10::toString(dtype));
    // (As in attend(): elsewhere other kernels are faster.)
    if (width != 128 || cuda::capability(unused_) != 90) return "it is not the fastest for these heads on this GPU";
  }
  // Two sequences that overlap, few, ragged and many keys of the room.
  constexpr int64_t kRoom = 2500;
  const at::Tensor q = random(512, heads, width, dtype, device_), k = random(kRoom + 1000, key_heads, width, dtype, device_),
                   v = random(kRoom + 1000, key_heads, width, dtype, device_);
  std::string why;
  const auto told = std::exchange(on_refusal, [&](const std::string& text) { why = text; });
  try {
    for (const int64_t keys : {1, 777, 2500}) {
      std::vector<Sequence> sequences;
      for (int64_t i = 0; i < 2; ++i)
        sequences.push_back({q.narrow(0, 256 * i, 256), k.narrow(0, 1000 * i, keys), v.narrow(0, 1000 * i, keys), {}});
      const std::vector<at::Tensor> got = together(sequences, kRoom), want = by_reference(sequences);
      for (size_t i = 0; why.empty() && i < sequences.size(); ++i) {
        const double error = error_of(got[i], want[i]);
        if (!(error < allowed(dtype))) why = fmt::format("cuDNN's results differ from the reference by {:.3f}", error);
      }
    }
  } catch (const std::exception& error) {
    why = error.what();
  }
  on_refusal = told;
  refused_.clear();
  return why;
}

bool PlannedAttention::usable(at::ScalarType dtype) const {
  const auto found = tried_.find(dtype);
  return cudnn_ && found != tried_.end() && found->second.empty();
}

bool PlannedAttention::joins(std::span<const Sequence> sequences) const {
  const Sequence& first = sequences[0];
  return flash_.contains(first.q.scalar_type()) && std::all_of(sequences.begin(), sequences.end(), [&](const Sequence& s) {
           return flash_takes(s) && s.q.scalar_type() == first.q.scalar_type() && s.q.size(1) == first.q.size(1) && s.k.size(1) == first.k.size(1);
         });
}

std::vector<at::Tensor> PlannedAttention::together(std::span<const Sequence> sequences, int64_t key_room) {
  LONGTAKE_CHECK(!sequences.empty(), "expected sequences to attend, found none");
  for (const Sequence& s : sequences) check(s, key_room);
  if (joins(sequences)) return flash_attend(sequences);
  if (usable(sequences[0].q.scalar_type()) && std::all_of(sequences.begin(), sequences.end(), plannable)) {
    const at::Tensor q = stacked(sequences, &Sequence::q), k = stacked(sequences, &Sequence::k), v = stacked(sequences, &Sequence::v);
    if (q.defined() && k.defined() && v.defined() && k.stride(0) == v.stride(0) && q.size(0) <= kSequences) {
      const at::Tensor out = on_cudnn(q, k, v, std::max(key_room, k.size(1)));
      if (out.defined()) return out.unbind(0);
    } else if (sequences.size() > 1) {
      std::vector<at::Tensor> out;
      for (const Sequence& s : sequences) out.push_back(together({&s, 1}, key_room).front());
      return out;
    }
  }
  return by_reference(sequences);
}

const int32_t* PlannedAttention::counts(int64_t count) {
  if (!counts_.defined() || counts_.size(0) <= count)
    counts_ = at::arange(2 * count + 1, at::TensorOptions().dtype(at::kInt).device(device_)).unsqueeze(1).repeat({1, kSequences});
  return counts_.const_data_ptr<int32_t>() + count * kSequences;
}

at::Tensor PlannedAttention::on_cudnn(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t key_room) {
  const int64_t heads = q.size(2), width = q.size(3);
  const bool alone = q.size(0) == 1;
  const cudnn::SdpaShape shape{.element = element_of(q.scalar_type()), .sequences = q.size(0), .heads = heads, .width = width, .key_heads = k.size(2),
                               .queries = q.size(1), .keys = key_room, .query_stride = alone ? 0 : q.stride(0), .key_stride = alone ? 0 : k.stride(0),
                               .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(width))), .counted = true};
  if (refused_.contains(shape)) return {};
  const at::Tensor out = at::empty({q.size(0), q.size(1), heads, width}, q.options());
  counts(std::max(q.size(1), k.size(1)));  // now, so that neither pointer below goes stale
  try {
    if (width % kAlignment != 0 || !aligned(q) || !aligned(k) || !aligned(v))
      throw std::runtime_error(fmt::format("heads of {} channels, or tensors that do not begin at multiples of {} bytes", width, kAlignment));
    const cuda::Launch launch(q, "planned attention");
    const at::Tensor workspace = at::empty({cudnn_->prepare(shape)}, at::TensorOptions().dtype(at::kByte).device(q.device()));
    cudnn_->run(shape,
                {.q = q.const_data_ptr(), .k = k.const_data_ptr(), .v = v.const_data_ptr(), .out = out.data_ptr(),
                 .query_counts = counts(q.size(1)), .key_counts = counts(k.size(1)), .constants = constants_.const_data_ptr<float>(),
                 .unused = unused_.data_ptr<float>(), .workspace = workspace.data_ptr()},
                launch.stream());
    return out;
  } catch (const std::exception& error) {
    if (refused_.empty() && on_refusal)
      on_refusal(fmt::format("attention in {} of {} queries on {} keys: {}", c10::toString(q.scalar_type()), shape.queries, k.size(1), error.what()));
    refused_.insert(shape);
    return {};
  }
}

namespace reference {

at::Tensor attend_fp8(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const at::ScalarType wide = q.is_cuda() ? at::kBFloat16 : at::kFloat;
  return rounded(attend(q.to(wide), k.to(wide), v.to(wide)), at::kFloat8_e4m3fn).contiguous();
}

}  // namespace reference
}  // namespace longtake
