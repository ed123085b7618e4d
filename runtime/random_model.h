// A model of a recipe's sizes with random weights: for measuring speed and memory without any files.
#pragma once

#include "runtime/model.h"

namespace longtake {

// Straight on the target's device in its dtype, still to be fitted to it (fit_to_target). Errors: bad_file where the
// recipe does not give the sizes.
skyreels::Transformer random_transformer(const Recipe& recipe, const ModelTarget& target, uint64_t seed);
WanVae random_vae(const Recipe& recipe, const ModelTarget& target, uint64_t seed);

// Contexts [text_len, text_dim] of normal values, one a text, in host memory; equal texts have equal contexts.
std::vector<EncodedText> random_texts(const Recipe& recipe, const std::vector<std::string>& texts, int64_t text_len,
                                      at::ScalarType dtype, uint64_t seed);

}  // namespace longtake
