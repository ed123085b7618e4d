// A model opened from its folder: the parts that stay for the run, and the text encoder that is only passing through.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/skyreels/transformer.h"
#include "models/wan_vae/wan_vae.h"
#include "runtime/recipe.h"

namespace longtake {

struct ModelTarget {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  bool fp8 = false;  // the transformer's large products in 8-bit floats (quant/fp8.h); needs bfloat16 and a device that can
  bool offload = false;  // the transformer's blocks stay in host memory and come to the device one by one (models/ops/block_stream.h)
  std::optional<at::ScalarType> vae_dtype{};  // of the VAE, where it was said

  // Wan's VAE is small, and published and run by Diffusers in float32; MAGI-1's is two large transformers, which its reference runs in bfloat16.
  at::ScalarType wan_vae_dtype() const { return vae_dtype.value_or(at::kFloat); }
  at::ScalarType magi_vae_dtype() const { return vae_dtype.value_or(dtype); }
};

// What options call a dtype; nothing for auto.
std::optional<at::ScalarType> dtype_named(const std::string& name);

// The device opened and the precision checked. Errors: usage (also a precision that the device or this build does not have), bad_file
// as open_device.
ModelTarget model_target(const GenerateOptions& options);

// Brings a new transformer into the form that its device computes with. Returns how many products could not be brought to fp8.
int64_t fit_to_target(skyreels::Transformer& transformer, const ModelTarget& target);

// Strict: a missing or misshapen tensor is an Error (bad_file) that names it. Files are memory-mapped and converted one tensor
// at a time. Still to be fitted to the target.
skyreels::Transformer load_transformer(const ModelFiles& files, const ModelTarget& target);
WanVae load_vae(const ModelFiles& files, const ModelTarget& target);

struct EncodedText {
  at::Tensor context;      // [text_len, text_dim] in the target's dtype, zero rows behind the end of the text
  int64_t tokens = 0;      // end mark included
  bool truncated = false;  // the text was longer than text_len
};

// Loads tokenizer and text encoder, encodes all texts and frees them again.
std::vector<EncodedText> encode_texts(const ModelFiles& files, const std::vector<std::string>& texts, int64_t text_len,
                                      const ModelTarget& target);

// Sizes from the files' headers alone, for plans.
skyreels::TransformerConfig transformer_config(const ModelFiles& files);
VaeSizes vae_sizes(const ModelFiles& files);
// The same from a recipe. Errors: bad_file where it does not give the sizes.
skyreels::TransformerConfig transformer_config(const Recipe& recipe);
VaeSizes vae_sizes(const Recipe& recipe);
// The conditioning vector of a timestep, from the few tensors that make it; float32 on the CPU.
std::function<at::Tensor(double)> load_step_embedding(const ModelFiles& files, int fps_index);

}  // namespace longtake
