// Prompts in training: token ids, and the padded contexts that the transformer sees.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "models/umt5/encoder.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace longtake::train {

inline constexpr int64_t kTextLength = 64;

// The demo model's text encoder: 2 layers of 128.
Umt5Sizes demo_text_sizes();

class Prompts {
 public:
  explicit Prompts(const std::filesystem::path& tokenizer);
  ~Prompts();
  // Ids with the end mark, at most kTextLength. An empty prompt is the end mark alone.
  std::vector<int64_t> ids(const std::string& prompt) const;

 private:
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
};

// Contexts [B, kTextLength, dim] of tokenised prompts: zero rows past the end mark (skyreels_v2.md 6.1), in the weights' dtype.
at::Tensor encode_texts(const Umt5Encoder& encoder, const std::vector<std::vector<int64_t>>& ids);

}  // namespace longtake::train
