#include "runtime/random_model.h"

#include "models/weights/name_seed.h"
#include "models/weights/random_source.h"
#include "runtime/noise.h"

namespace longtake {

skyreels::Transformer random_transformer(const Recipe& recipe, const ModelTarget& target, uint64_t seed) {
  const skyreels::TransformerConfig config = transformer_config(recipe);
  RandomSource source(seed, target.offload ? at::kCPU : target.device, target.dtype);
  return {source, config};
}

WanVae random_vae(const Recipe& recipe, const ModelTarget& target, uint64_t seed) {
  RandomSource source(seed, target.device, target.wan_vae_dtype());
  return {source, vae_sizes(recipe)};
}

std::vector<EncodedText> random_texts(const Recipe& recipe, const std::vector<std::string>& texts, int64_t text_len,
                                      at::ScalarType dtype, uint64_t seed) {
  const int64_t width = transformer_config(recipe).text_dim;
  std::vector<EncodedText> out;
  for (const std::string& text : texts)
    out.push_back(
        {.context = normal(seed_of_name(seed, "text " + text), 0, {text_len, width}).to(dtype), .tokens = text_len});
  return out;
}

}  // namespace longtake
