#include "models/weights/random_source.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/ops/empty.h>

#include "base/error.h"
#include "models/weights/checkpoint.h"
#include "models/weights/name_seed.h"

namespace longtake {
namespace {

at::Generator generator_on(const at::Device& device, uint64_t seed) {
  if (device.is_cpu()) return at::make_generator<at::CPUGeneratorImpl>(seed);
  at::Generator generator =
      at::globalContext().getAcceleratorHooksInterface(device.type()).getNewGenerator(device.index());
  generator.set_current_seed(seed);
  return generator;
}

}  // namespace

RandomSource::RandomSource(uint64_t seed, at::Device device, at::ScalarType dtype)
    : seed_(seed), device_(device), dtype_(dtype) {}

bool RandomSource::has(const std::string& name) const {
  fail(ExitCode::internal, "'{}' is yet to be drawn, and whether it exists is for the recipe to say", name);
}

std::vector<int64_t> RandomSource::shape(const std::string& name) const {
  fail(ExitCode::internal, "'{}' is yet to be drawn and has no stored shape", name);
}

at::Tensor RandomSource::take(const std::string& name, const std::vector<int64_t>& shape) {
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(dtype_).device(device_));
  const bool weight = name.ends_with(".weight"), modulation = name.ends_with(".modulation");
  if (name.ends_with(".bias")) return tensor.zero_();
  if (name.ends_with(".gamma") || (weight && shape.size() == 1)) return tensor.fill_(1);
  if (shape.empty() || !(weight || modulation))
    fail(ExitCode::internal, "no rule says how to draw '{}' of shape {}", name, shape_text(shape));
  const int64_t fan_in = modulation ? shape.back() : tensor.numel() / std::max<int64_t>(shape[0], 1);
  return tensor.normal_(0, 1 / std::sqrt(static_cast<double>(fan_in)),
                        generator_on(device_, seed_of_name(seed_, name)));
}

}  // namespace longtake
