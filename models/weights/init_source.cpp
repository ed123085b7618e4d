#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>

#include <string_view>

#include "base/error.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/name_seed.h"

namespace longtake {
namespace {

bool ends_with_any(std::string_view name, std::initializer_list<std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(), [&](std::string_view ending) { return name.ends_with(ending); });
}

void fill(at::Tensor& tensor, const std::string& name, const at::Generator& generator) {
  const auto sizes = tensor.sizes();
  if (name.ends_with(".bias") || name == "head.head.weight" ||
      ends_with_any(name, {"fps_projection.2.weight", "middle.1.proj.weight", "final_linear.linear.weight"}) ||
      // MAGI-1 stores these gains less 1.
      ends_with_any(name, {"layernorm.weight", "layernorm_xattn.weight", "post_norm.weight"})) {
    tensor.fill_(0);
  } else if (ends_with_any(name, {".modulation"}) && tensor.dim() > 0) {
    tensor.normal_(0, 1 / std::sqrt(static_cast<double>(sizes.back())), generator);
  } else if (name.ends_with(".gamma") || (name.ends_with(".weight") && tensor.dim() == 1)) {
    tensor.fill_(1);
  } else if (name.ends_with("pos_embedding.embedding.weight")) {
    // Nothing else tells a text encoder the order of words: biases as large as the scores, so that it counts from the start.
    tensor.normal_(0, 1, generator);
  } else if (name == "rope.bands") {
    tensor.copy_(at::exp(at::arange(sizes[0], at::kFloat) * (-std::log(10000.0) / static_cast<double>(sizes[0]))));
  } else if (name == "y_embedder.null_caption_embedding") {
    tensor.normal_(0, 1, generator);  // as large as a text encoder's rows
  } else if (ends_with_any(name, {"token_embedding.weight", "fps_embedding.weight"})) {
    tensor.normal_(0, 0.02, generator);
  } else if (name.ends_with(".attn.q.weight")) {
    // UMT5 does not scale its scores by the head width (64): with larger queries attention would start, and stay, on one key.
    tensor.normal_(0, 1 / std::sqrt(64.0 * static_cast<double>(sizes[1])), generator);
  } else if (name.ends_with(".weight") && tensor.dim() == 2) {
    const double bound = std::sqrt(6.0 / static_cast<double>(sizes[0] + sizes[1]));
    tensor.uniform_(-bound, bound, generator);
  } else if (name.ends_with(".weight") && tensor.dim() >= 3 && tensor.dim() <= 5) {
    const double fan_in = static_cast<double>(tensor.numel() / std::max<int64_t>(sizes[0], 1));
    const double bound = std::sqrt(3.0 / fan_in);
    tensor.uniform_(-bound, bound, generator);
  } else {
    fail(ExitCode::internal, "no rule says how to initialise '{}' of shape {}", name, shape_text(sizes.vec()));
  }
}

}  // namespace

InitSource::InitSource(std::function<bool(const std::string&)> has, uint64_t seed, at::Device device)
    : has_(std::move(has)), seed_(seed), device_(device) {}

std::vector<int64_t> InitSource::shape(const std::string& name) const {
  fail(ExitCode::internal, "'{}' is yet to be created and has no stored shape", name);
}

at::Tensor InitSource::take(const std::string& name, const std::vector<int64_t>& shape) {
  if (const auto it = parameters_.find(name); it != parameters_.end()) {
    LONGTAKE_CHECK(it->second.sizes() == shape, "'{}' was created with shape {}, now {} is wanted", name,
                   shape_text(it->second.sizes().vec()), shape_text(shape));
    return it->second;
  }
  // Always drawn on the CPU, so that a seed means the same on every device.
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(at::kFloat));
  fill(tensor, name, at::make_generator<at::CPUGeneratorImpl>(seed_of_name(seed_, name)));
  return parameters_.emplace(name, tensor.to(device_)).first->second;
}

}  // namespace longtake
