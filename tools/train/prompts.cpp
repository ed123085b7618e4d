#include "tools/train/prompts.h"

#include <ATen/ops/tensor.h>
#include <sentencepiece_processor.h>

#include "base/error.h"
#include "tools/train/tokenizer.h"

namespace longtake::train {

Umt5Sizes demo_text_sizes() {
  return {.vocabulary = static_cast<int64_t>(demo_vocabulary().size()), .dim = 128, .heads = 4, .head_dim = 32, .ffn = 256, .layers = 2};
}

Prompts::Prompts(const std::filesystem::path& tokenizer) : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
  if (!processor_->Load(tokenizer.string()).ok()) fail_file("{} is no SentencePiece model", tokenizer.string());
}
Prompts::~Prompts() = default;

std::vector<int64_t> Prompts::ids(const std::string& prompt) const {
  std::vector<int> pieces;
  if (!processor_->Encode(prompt, &pieces).ok()) fail_usage("the prompt '{}' cannot be tokenised", prompt);
  std::vector<int64_t> ids(pieces.begin(), pieces.end());
  ids.resize(std::min<size_t>(ids.size(), kTextLength - 1));
  ids.push_back(processor_->eos_id());
  return ids;
}

at::Tensor encode_texts(const Umt5Encoder& encoder, const std::vector<std::vector<int64_t>>& ids) {
  std::vector<int64_t> padded(ids.size() * kTextLength, 0), mask(padded.size(), 0);
  for (size_t b = 0; b < ids.size(); ++b) {
    std::copy(ids[b].begin(), ids[b].end(), padded.begin() + static_cast<std::ptrdiff_t>(b * kTextLength));
    std::fill_n(mask.begin() + static_cast<std::ptrdiff_t>(b * kTextLength), ids[b].size(), 1);
  }
  const auto rows = static_cast<int64_t>(ids.size());
  return encoder.encode(at::tensor(padded).view({rows, kTextLength}), at::tensor(mask).view({rows, kTextLength}));
}

}  // namespace longtake::train
