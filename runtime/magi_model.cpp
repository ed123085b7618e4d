#include "runtime/magi_model.h"

#include <ATen/ops/empty.h>

#include "base/cuda.h"
#include "base/error.h"
#include "models/umt5/encoder.h"
#include "models/umt5/tokenizer.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/names.h"
#include "runtime/families.h"
#include "runtime/magi_recipe.h"

namespace longtake {
namespace {

bool computes_fp8(const at::Device& device) {
  return device.is_cuda() && cuda::built() && cuda::capability(at::empty({0}, at::TensorOptions().device(device))) >= 89;
}

}  // namespace

magi::QuantisedAs quantised_as(const Recipe& recipe, const ModelTarget& target, const std::string& precision) {
  if (precision == "fp8" && !recipe.architecture.fp8)
    fail_usage("--precision fp8 needs a quantised checkpoint for MAGI-1, and that of {} is not; use a model such as magi-1-4.5b-distill-fp8, or "
               "leave out --precision", recipe.name);
  const bool fp8 = precision != "bf16" && target.dtype == at::kBFloat16 && computes_fp8(target.device);
  return fp8 ? magi::QuantisedAs::fp8 : magi::QuantisedAs::working_dtype;
}

magi::Transformer load_magi_transformer(const ResolvedModel& model, const ModelTarget& target, magi::QuantisedAs as) {
  const std::filesystem::path& path = model.require_files().transformer;
  const Architecture& a = model.recipe.architecture;
  // What is offloaded is taken from the mapped file to the device and back layer by layer.
  CheckpointSource source(Checkpoint::open(path), {}, target.offload ? at::kCPU : target.device, target.dtype);
  magi::Transformer transformer(source, magi_sizes(model.recipe), a.distilled, as);
  if (a.fp8 && transformer.quantised() == 0)
    fail_file("{}: holds no quantised layers, which the model {} has; give the folder inference_weight.fp8.distill", path.string(),
              model.recipe.name);
  if (!a.fp8 && transformer.quantised() > 0)
    fail_file("{}: holds quantised layers, which the model {} has not; name a model whose checkpoint is quantised, such as "
              "magi-1-4.5b-distill-fp8", path.string(), model.recipe.name);
  if (target.offload) transformer.offload(target.device);
  return transformer;
}

at::ScalarType vae_dtype(const Recipe& recipe, const ModelTarget& target) {
  return is_magi(recipe) && !has_wan_vae(recipe) ? target.magi_vae_dtype() : target.wan_vae_dtype();
}

MagiVae load_magi_vae(const ModelFiles& files, const ModelTarget& target) {
  CheckpointSource source(Checkpoint::open(files.vae), {}, target.device, target.magi_vae_dtype());
  return {source, read_magi_vae_config(files.vae)};
}

magi::SpecialTokens load_special_tokens(const ResolvedModel& model) {
  if (!has_special_rows(model.recipe)) return {};
  return magi::SpecialTokens::read(model.require_files().special_tokens, model.recipe.architecture.text_dim);
}

std::vector<MagiCaption> encode_captions(const ResolvedModel& model, const std::vector<std::string>& texts, const at::Device& device) {
  const ModelFiles& files = model.require_files();
  const Architecture& a = model.recipe.architecture;
  const Tokenizer tokenizer(files.tokenizer);
  Checkpoint checkpoint = Checkpoint::open(files.text_encoder);
  auto translate = umt5_translator(checkpoint);
  CheckpointSource source(std::move(checkpoint), std::move(translate), device, at::kFloat);
  const Umt5Encoder encoder(source, a.umt5 ? PositionBias::per_layer : PositionBias::shared);
  if (encoder.sizes().dim != a.text_dim)
    fail_file("{}: is a text encoder of width {}, expected {}; give T5 v1.1 XXL's for the published models", files.text_encoder.string(),
              encoder.sizes().dim, a.text_dim);
  std::vector<MagiCaption> out;
  for (const std::string& text : texts) {
    const PromptTokens tokens = tokenizer.encode_caption(text, a.text_len);
    const TokenBatch batch = tokenizer.pad({&tokens, 1}, static_cast<int64_t>(tokens.ids.size()));
    out.push_back({encoder.encode(batch.ids.to(device), batch.mask.to(device)).squeeze(0).cpu(), tokens.truncated()});
  }
  return out;
}

}  // namespace longtake
