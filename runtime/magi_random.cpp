// MAGI-1 with random weights (magi_model.h).
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/exp.h>

#include <cmath>

#include "base/error.h"
#include "models/weights/name_seed.h"
#include "models/weights/random_source.h"
#include "runtime/magi_model.h"
#include "runtime/magi_recipe.h"
#include "runtime/noise.h"

namespace longtake {
namespace {

constexpr double kTokenScale = 0.125;  // of the published special rows

// RandomSource's rules, and those of MAGI-1's own tensors. Nothing that is optional is there: no quantised layers.
class MagiSource final : public RandomSource {
 public:
  MagiSource(uint64_t seed, const at::Device& device, at::ScalarType dtype)
      : RandomSource(seed, device, dtype), seed_(seed), device_(device), dtype_(dtype) {}

  bool has(const std::string&) const override { return false; }

  at::Tensor take(const std::string& name, const std::vector<int64_t>& shape) override {
    const auto on_device = [&](const at::Tensor& x) { return x.to(device_, dtype_); };
    // Gains that are stored less 1.
    const bool near_one = name.ends_with("layernorm.weight") || name.ends_with("post_norm.weight") || name.ends_with("layernorm_xattn.weight");
    if (near_one && shape.size() == 1) return RandomSource::take(name, shape).zero_();
    if (name == "rope.bands") return on_device(at::exp(at::arange(shape.at(0), at::kFloat) * (-std::log(10000.0) / static_cast<double>(shape[0]))));
    // Learned rows: the empty caption, the VAE's class token and positions.
    if (!name.ends_with(".weight") && !name.ends_with(".bias"))
      return on_device(normal(seed_of_name(seed_, name), 0, shape) * (name.starts_with("y_embedder") ? kTokenScale : 0.02));
    return RandomSource::take(name, shape);
  }

 private:
  uint64_t seed_;
  at::Device device_;
  at::ScalarType dtype_;
};

}  // namespace

magi::Transformer random_magi_transformer(const Recipe& recipe, const ModelTarget& target, uint64_t seed) {
  if (recipe.architecture.fp8)
    fail_usage("there are no random weights in fp8; measure {} with its files, or the model that it was made from", recipe.name);
  MagiSource source(seed, target.offload ? at::Device(at::kCPU) : target.device, target.dtype);
  magi::Transformer transformer(source, magi_sizes(recipe), recipe.architecture.distilled);
  if (target.offload) transformer.offload(target.device);
  return transformer;
}

MagiVae random_magi_vae(const Recipe& recipe, const ModelTarget& target, uint64_t seed) {
  MagiSource source(seed, target.device, target.magi_vae_dtype());
  return {source, magi_vae_config(recipe)};
}

magi::SpecialTokens random_special_tokens(const Recipe& recipe, uint64_t seed) {
  const auto rows = [&](const char* name, int64_t count) {
    return normal(seed_of_name(seed, name), 0, {count, recipe.architecture.text_dim}) * kTokenScale;
  };
  return magi::SpecialTokens::from(rows("caption_token", 1), rows("logo_token", 1), rows("other_tokens", magi::SpecialTokens::two_d_anime + 1));
}

std::vector<MagiCaption> random_captions(const Recipe& recipe, const std::vector<std::string>& texts, uint64_t seed) {
  const Architecture& a = recipe.architecture;
  std::vector<MagiCaption> out;
  for (const std::string& text : texts) out.push_back({normal(seed_of_name(seed, "text " + text), 0, {a.text_len, a.text_dim}) * kTokenScale});
  return out;
}

}  // namespace longtake
