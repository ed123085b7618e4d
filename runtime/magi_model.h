// The parts of a MAGI-1 model, from its folder or at random. Its text encoder only passes through, as in model.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "models/magi/text_rows.h"
#include "models/magi/transformer.h"
#include "models/magi_vae/magi_vae.h"
#include "runtime/model.h"

namespace longtake {

// How the layers of a quantised checkpoint compute on this target: in fp8 where its device can and `precision` (run.precision) does not
// insist on bf16. Errors: usage for fp8 products of a model whose checkpoint is not quantised.
magi::QuantisedAs quantised_as(const Recipe& recipe, const ModelTarget& target, const std::string& precision);

// What the VAE of a recipe of either family computes in: Wan's and MAGI-1's own have defaults of their own (runtime/model.h).
at::ScalarType vae_dtype(const Recipe& recipe, const ModelTarget& target);

// Strict: a missing or misshapen tensor is an Error (bad_file) that names it, and so is a checkpoint that is quantised where the
// recipe says it is not, or the other way round. Files are memory-mapped and converted one tensor at a time.
magi::Transformer load_magi_transformer(const ResolvedModel& model, const ModelTarget& target, magi::QuantisedAs quantised_as);
// In the target's dtype: the reference runs it in bfloat16, and it is two large transformers.
MagiVae load_magi_vae(const ModelFiles& files, const ModelTarget& target);
// Empty where the model has none.
magi::SpecialTokens load_special_tokens(const ResolvedModel& model);

struct MagiCaption {
  at::Tensor rows;         // [n, text_dim] float32 on the CPU: the encoder's rows that count
  bool truncated = false;  // the text was longer than the model reads
};

// Loads tokenizer and text encoder, encodes all texts and frees them again. In float32, as the model was trained with.
std::vector<MagiCaption> encode_captions(const ResolvedModel& model, const std::vector<std::string>& texts, const at::Device& device);

// The same with random weights, for measurements: sizes from the recipe, drawn on the target's device so that activations keep
// their size; captions of as many rows as the model reads. Equal seeds and texts give equal values. Errors: bad_file where the
// recipe does not give the sizes.
magi::Transformer random_magi_transformer(const Recipe& recipe, const ModelTarget& target, uint64_t seed);
MagiVae random_magi_vae(const Recipe& recipe, const ModelTarget& target, uint64_t seed);
magi::SpecialTokens random_special_tokens(const Recipe& recipe, uint64_t seed);
std::vector<MagiCaption> random_captions(const Recipe& recipe, const std::vector<std::string>& texts, uint64_t seed);

}  // namespace longtake
