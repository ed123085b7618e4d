#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <cstdio>

#include "attention/attend.h"
#include "attention/cudnn/sdpa.h"
#include "base/cuda.h"
#include "tools/kernels/attention.h"
#include "tools/kernels/timing.h"

namespace longtake::bench {
namespace {

// What a plan of cuDNN's costs the host, and how fast it is: each shape compiled for itself, as a graph of dynamic shape, and with counts
// that the device reads.
class PlanTimes {
 public:
  explicit PlanTimes(cudnn::Element element)
      : element_(element), q_(rows(2 * kQueries)), k_(rows(2 * kKeys)), v_(rows(2 * kKeys)),
        constants_(at::tensor(at::ArrayRef<float>(cudnn::kConstants), at::TensorOptions().dtype(at::kFloat)).to(kGpu)),
        unused_(at::empty({2}, at::TensorOptions().dtype(at::kFloat).device(kGpu))) {
    exact_ = cudnn::open_sdpa(cudnn::Plans::exact);
    dynamic_ = cudnn::open_sdpa(cudnn::Plans::dynamic);
  }

  void all() {
    for (const auto& [queries, keys] : std::vector<std::pair<int64_t, int64_t>>{
             {10240, 51000}, {10240, 10200}, {7168, 10200}, {7168, 51000}, {7140, 30600}, {5120, 20400}, {4352, 40800}, {256, 512}, {9984, 512}}) {
      std::printf("  %lld queries on %lld keys, 2 sequences\n", static_cast<long long>(queries), static_cast<long long>(keys));
      const at::Tensor want = one("exact", *exact_, shape(queries, keys, false), queries, keys, {});
      one("dynamic", *dynamic_, shape(queries, keys, false), queries, keys, want);
      one("counted queries", *exact_, shape(kQueries, keys, true), queries, keys, want);
      one("counted queries and keys", *exact_, shape(kQueries, kKeys, true), queries, keys, want);
    }
  }

 private:
  static constexpr int64_t kQueries = 10240, kKeys = 51000, kHeads = 12, kWidth = 128;

  at::ScalarType type() const { return element_ == cudnn::Element::e4m3 ? at::kFloat8_e4m3fn : at::kBFloat16; }
  at::Tensor rows(int64_t count) const {
    return at::randn({count, kHeads, kWidth}, at::TensorOptions().dtype(at::kFloat).device(kGpu)).to(type());
  }
  cudnn::SdpaShape shape(int64_t queries, int64_t keys, bool counted) const {
    return {.element = element_, .sequences = 2, .heads = kHeads, .width = kWidth, .key_heads = kHeads, .queries = queries, .keys = keys,
            .query_stride = kQueries * kHeads * kWidth, .key_stride = kKeys * kHeads * kWidth,
            .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(kWidth))), .counted = counted};
  }

  at::Tensor one(const char* name, cudnn::Sdpa& sdpa, const cudnn::SdpaShape& s, int64_t queries, int64_t keys, const at::Tensor& want) try {
    const double begin = seconds_now();
    const at::Tensor workspace = at::empty({sdpa.prepare(s)}, at::TensorOptions().dtype(at::kByte).device(kGpu));
    const double planned = seconds_now();
    const at::Tensor out = at::empty({2, s.queries, kHeads, kWidth}, q_.options());
    const auto ints = at::TensorOptions().dtype(at::kInt);
    const at::Tensor query_counts = at::full({2}, queries, ints).to(kGpu), key_counts = at::full({2}, keys, ints).to(kGpu);
    const cudnn::SdpaPointers p{.q = q_.const_data_ptr(), .k = k_.const_data_ptr(), .v = v_.const_data_ptr(), .out = out.data_ptr(),
                                .query_counts = query_counts.const_data_ptr<int32_t>(), .key_counts = key_counts.const_data_ptr<int32_t>(),
                                .constants = constants_.const_data_ptr<float>(), .unused = unused_.data_ptr<float>(),
                                .workspace = workspace.data_ptr()};
    const auto raw = reinterpret_cast<CUstream_st*>(cuda::Launch(q_, "attention").stream());
    const double ready = seconds_now();
    sdpa.run(s, p, raw);
    const double first = seconds_now() - ready;
    const double ms = median_ms([&] { sdpa.run(s, p, raw); }, 5);
    const at::Tensor got = out.narrow(1, 0, queries).to(at::kFloat);
    std::printf("    %-26s plan %8.1f ms, first run %7.2f ms, %8.3f ms, %6.1f TFLOP/s, workspace %lld", name, 1e3 * (planned - begin), 1e3 * first,
                ms, 8.0 * static_cast<double>(queries * keys) * kHeads * kWidth / ms / 1e9, static_cast<long long>(workspace.numel()));
    if (want.defined())
      std::printf(", difference %.1e%s", relative_error({got}, {want}), at::equal(got, want) ? " (equal bits)" : "");
    std::printf("\n");
    return got;
  } catch (const std::exception& error) {
    std::printf("    %-26s %s\n", name, error.what());
    return {};
  }

  const cudnn::Element element_;
  const at::Tensor q_, k_, v_, constants_, unused_;
  std::unique_ptr<cudnn::Sdpa> exact_, dynamic_;
};

}  // namespace

void time_plans() {
  for (const auto& [name, element] : {std::pair{"bfloat16", cudnn::Element::bf16}, std::pair{"e4m3", cudnn::Element::e4m3}}) {
    std::printf("\nattention through cuDNN in %s\n", name);
    PlanTimes(element).all();
  }
  const auto typed = at::TensorOptions().dtype(at::kBFloat16).device(kGpu);
  const at::Tensor q = at::randn({10240, 12, 128}, typed), k = at::randn({51000, 12, 128}, typed), v = at::randn({51000, 12, 128}, typed);
  std::printf("\nATen's: first call of a new shape, and the second, in ms on the host\n");
  for (int64_t n = 2560; n <= 10240; n += 2560) {
    double taken[2];
    for (double& t : taken) {
      c10::impl::VirtualGuardImpl(at::kCUDA).synchronizeDevice(0);
      const double begin = seconds_now();
      attend(q.narrow(0, 0, n), k, v, {0, 10200});
      t = 1e3 * (seconds_now() - begin);
    }
    std::printf("  %lld queries: %.2f, %.3f\n", static_cast<long long>(n), taken[0], taken[1]);
  }
}

}  // namespace longtake::bench
