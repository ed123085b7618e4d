// The VAE's norm over the channels of each pixel, against float64 on every device and dtype.
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sigmoid.h>

#include <c10/core/InferenceMode.h>

#include "base/cuda.h"
#include "models/wan_vae/cuda/pixel_norm.cuh"
#include "models/wan_vae/layers.h"
#include "models/weights/source.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"

using namespace longtake;

namespace {

at::Tensor norm64(const at::Tensor& x, const at::Tensor& gamma, bool silu) {
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor length = at::linalg_vector_norm(wide, 2, at::IntArrayRef{1}, /*keepdim=*/true).clamp_min(1e-12);
  const at::Tensor y = wide / length * std::sqrt(static_cast<double>(x.size(1))) * gamma.to(at::kDouble);
  return silu ? y * at::sigmoid(y) : y;
}

class OneTensor : public WeightSource {
 public:
  explicit OneTensor(at::Tensor tensor) : tensor_(std::move(tensor)) {}
  bool has(const std::string&) const override { return true; }
  std::vector<int64_t> shape(const std::string&) const override { return tensor_.sizes().vec(); }
  at::Tensor take(const std::string&, const std::vector<int64_t>&) override { return tensor_; }

 private:
  at::Tensor tensor_;
};

at::Tensor pixels(const std::vector<int64_t>& shape, const at::TensorOptions& options) {
  return at::randn(shape, options.dtype(at::kFloat)).to(options.dtype()).contiguous(at::MemoryFormat::ChannelsLast3d);
}

}  // namespace

TEST_CASE("the VAE's norm agrees with float64, for widths that its kernel takes and others") {
  const c10::InferenceMode guard;
  for (const auto& device : test_devices())
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf})
      for (const int64_t channels : {8, 20, 96, 128, 136, 192, 256, 384, 512, 520})
        for (const bool silu : {false, true}) {
          INFO(channels << " channels, " << c10::toString(dtype) << (silu ? ", silu" : "") << " on " << device.str());
          const at::Tensor gamma = at::randn({channels, 1, 1, 1}, at::TensorOptions().dtype(at::kFloat).device(device)).to(dtype);
          OneTensor source(gamma);
          VaeLoader loader{source};
          const VaeNorm norm(loader, "gamma", {channels, 1, 1, 1});
          at::Tensor x = pixels({1, channels, 3, 5, 7}, at::TensorOptions().dtype(dtype).device(device)) * 4;
          x.select(2, 1).select(2, 2).select(2, 3).zero_();  // a pixel of zeros stays one
          const at::Tensor got = norm(x, silu), want = norm64(x, gamma, silu);
          CHECK(got.scalar_type() == dtype);
          CHECK(got.is_contiguous(at::MemoryFormat::ChannelsLast3d));
          CHECK(test::relative_error(got, want) < test::rounding(dtype));
          const at::Tensor two = pixels({2, channels, 2, 1, 1}, at::TensorOptions().dtype(dtype).device(device)),
                           planes = at::randn({1, channels, 2, 3, 4}, at::TensorOptions().dtype(at::kFloat).device(device)).to(dtype);
          for (const at::Tensor& other : {two, planes}) CHECK(test::relative_error(norm(other, silu), norm64(other, gamma, silu)) < test::rounding(dtype));
          // One frame alone, and one that lies within others.
          if (cuda::runs_kernels(x) && cuda::pixel_norm_fits(channels)) CHECK(at::equal(norm(x.narrow(2, 1, 1), silu), got.narrow(2, 1, 1)));
        }
}
