#include "runtime/model.h"

#include <ATen/ops/empty.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/cuda.h"
#include "base/error.h"
#include "models/umt5/encoder.h"
#include "models/umt5/tokenizer.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/names.h"
#include "runtime/device.h"

namespace longtake {
namespace {

// The number of heads cannot be seen from the tensors; 0 where the folder does not say (then the family's head width holds).
int64_t configured_heads(const std::filesystem::path& transformer) {
  const auto folder = std::filesystem::is_directory(transformer) ? transformer : transformer.parent_path();
  std::ifstream file(folder / "config.json");
  if (!file) return 0;
  const auto config = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) fail_file("{} is not a JSON object", (folder / "config.json").string());
  for (const char* key : {"num_attention_heads", "num_heads"})
    if (config.contains(key) && config[key].is_number_integer()) return config[key].get<int64_t>();
  return 0;
}

CheckpointSource open_transformer(const ModelFiles& files, const ModelTarget& target) {
  Checkpoint checkpoint = Checkpoint::open(files.transformer);
  auto translate = dit_translator(checkpoint);
  // What is offloaded is taken from the mapped file to the device and back block by block.
  return {std::move(checkpoint), std::move(translate), target.offload ? at::kCPU : target.device, target.dtype};
}

CheckpointSource open_vae(const ModelFiles& files, const ModelTarget& target) {
  Checkpoint checkpoint = Checkpoint::open(files.vae);
  auto translate = vae_translator(checkpoint);
  return {std::move(checkpoint), std::move(translate), target.device, target.wan_vae_dtype()};
}

}  // namespace

std::optional<at::ScalarType> dtype_named(const std::string& name) {
  if (name == "auto") return std::nullopt;
  return name == "fp32" ? at::kFloat : at::kBFloat16;
}

ModelTarget model_target(const GenerateOptions& o) {
  const bool fp8 = o.precision == "fp8";
  if (o.precision != "auto" && o.dtype != "bf16") fail_usage("--precision {} needs --dtype bf16, found {}; leave one of them out", o.precision, o.dtype);
  const ModelTarget target{open_device(o.device), *dtype_named(o.dtype), fp8, o.offload, dtype_named(o.vae_dtype)};
  if (target.offload && target.device.is_cpu())
    fail_usage("--offload keeps weights out of a GPU's memory, and this run is on the CPU, where weights in the precision of their file are read from "
               "it as they are needed; leave out --offload, or give --dtype bf16 for a file of bfloat16");
  if (!fp8) return target;
  if (!target.device.is_cuda())
    fail_usage("--precision fp8 needs a GPU of compute capability 8.9 or newer, and this run is on the CPU; leave out --precision");
  if (!cuda::built()) fail_usage("--precision fp8 needs a build with CUDA kernels; configure with -DLONGTAKE_CUDA=ON, or leave out --precision");
  const int capability = cuda::capability(at::empty({0}, at::TensorOptions().device(target.device)));
  if (capability < 89)
    fail_usage("--precision fp8 needs a GPU of compute capability 8.9 or newer, and this one has {}.{}; leave out --precision", capability / 10,
               capability % 10);
  return target;
}

int64_t fit_to_target(skyreels::Transformer& transformer, const ModelTarget& target) {
  const bool merge = target.device.is_cuda() && cuda::built();  // on the CPU the weights stay views of the file
  if (target.offload) return transformer.offload(target.device, merge, target.fp8);
  if (merge) transformer.merge_projections();
  return target.fp8 ? transformer.to_fp8() : 0;
}

skyreels::Transformer load_transformer(const ModelFiles& files, const ModelTarget& target) {
  CheckpointSource source = open_transformer(files, target);
  return {source, skyreels::TransformerConfig::from(source, configured_heads(files.transformer))};
}

WanVae load_vae(const ModelFiles& files, const ModelTarget& target) {
  CheckpointSource source = open_vae(files, target);
  return WanVae(source);
}

std::vector<EncodedText> encode_texts(const ModelFiles& files, const std::vector<std::string>& texts, int64_t text_len,
                                      const ModelTarget& target) {
  const Tokenizer tokenizer(files.tokenizer);
  Checkpoint checkpoint = Checkpoint::open(files.text_encoder);
  auto translate = umt5_translator(checkpoint);
  CheckpointSource source(std::move(checkpoint), std::move(translate), target.device, target.dtype);
  const Umt5Encoder encoder(source);
  std::vector<EncodedText> out;
  for (const std::string& text : texts) {
    const PromptTokens tokens = tokenizer.encode(text, text_len);
    const TokenBatch padded = tokenizer.pad({&tokens, 1}, text_len);
    EncodedText encoded;
    encoded.truncated = tokens.truncated();
    encoded.tokens = static_cast<int64_t>(tokens.ids.size());
    encoded.context = encoder.encode(padded.ids.to(target.device), padded.mask.to(target.device)).squeeze(0);
    out.push_back(std::move(encoded));
  }
  return out;
}

skyreels::TransformerConfig transformer_config(const ModelFiles& files) {
  const CheckpointSource source = open_transformer(files, {});
  return skyreels::TransformerConfig::from(source, configured_heads(files.transformer));
}

VaeSizes vae_sizes(const ModelFiles& files) { return read_vae_sizes(open_vae(files, {})); }

skyreels::TransformerConfig transformer_config(const Recipe& recipe) {
  const Architecture& a = recipe.architecture;
  if (a.dim == 0 || a.ffn == 0 || a.layers == 0 || a.heads == 0 || a.text_dim == 0 || a.freq_dim == 0 || a.dim % a.heads != 0)
    fail_file("the recipe of {} does not give the transformer's sizes; name one that does (longtake models lists them)", recipe.name);
  const VaeSizes vae = vae_sizes(recipe);
  return {.dim = a.dim, .ffn_dim = a.ffn, .layers = a.layers, .heads = a.heads, .in_channels = vae.z_dim, .out_channels = vae.z_dim,
          .text_dim = a.text_dim, .freq_dim = a.freq_dim, .fps_embedding = a.fps_embedding};
}

VaeSizes vae_sizes(const Recipe& recipe) {
  const Architecture& a = recipe.architecture;
  if (a.vae_stages.empty() || a.vae_blocks == 0)
    fail_file("the recipe of {} does not give the VAE's sizes; name one that does (longtake models lists them)", recipe.name);
  std::vector<int64_t> multipliers;
  for (const int64_t channels : a.vae_stages) multipliers.push_back(channels / a.vae_stages[0]);
  return make_vae_sizes(a.vae_stages[0], multipliers, a.vae_blocks, {false, true, true});
}

std::function<at::Tensor(double)> load_step_embedding(const ModelFiles& files, int fps_index) {
  CheckpointSource source = open_transformer(files, {});
  const skyreels::TimeEmbedder embedder(source, skyreels::TransformerConfig::from(source, configured_heads(files.transformer)));
  return [embedder, fps_index](double timestep) { return embedder.step(timestep, fps_index); };
}

}  // namespace longtake
