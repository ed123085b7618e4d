// Prompts to token ids for the UMT5 and T5 encoders: cleaning (text_clean.h, caption_clean.h), SentencePiece, the end
// mark, padding.
//
// Text that looks like a special piece ("</s>", "<extra_id_0>") is tokenised as the letters that it consists of.
// Source: skyreels_v2.md section 6.3, magi1.md section 5.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace longtake {

struct PromptTokens {
  std::vector<int64_t> ids;  // with the end mark, without padding; at most the wanted length
  int64_t total;             // with the end mark, before cutting
  bool truncated() const { return total > static_cast<int64_t>(ids.size()); }
};

struct TokenBatch {
  at::Tensor ids;   // [B, L] int64, padded
  at::Tensor mask;  // [B, L] int64, 1 on real tokens (the end mark is one)
};

class Tokenizer {
 public:
  // A SentencePiece model (spiece.model). Error (bad_file) where it is missing or none.
  explicit Tokenizer(const std::filesystem::path& file);
  // The bytes of one; `name` serves messages.
  static Tokenizer from_bytes(std::string_view bytes, const std::string& name);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // At most `max_length` ids, the last of them the end mark; an empty prompt is the end mark alone. Error (usage) where
  // the prompt is not valid UTF-8. May be called from several threads.
  PromptTokens encode(std::string_view prompt, int64_t max_length = 512) const;

  // The same for MAGI-1, which cleans more (caption_clean.h) and pads to 800.
  PromptTokens encode_caption(std::string_view caption, int64_t max_length = 800) const;

  // Several prompts padded to `length`, which must hold the longest.
  TokenBatch pad(std::span<const PromptTokens> prompts, int64_t length = 512) const;

  int64_t vocabulary() const;
  int64_t pad_id() const { return pad_; }
  int64_t end_id() const { return end_; }
  int64_t unknown_id() const { return unknown_; }

 private:
  Tokenizer(std::string_view bytes, const std::string& name);
  PromptTokens encode_cleaned(std::string_view text, int64_t max_length) const;

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  int64_t pad_, end_, unknown_;
};

}  // namespace longtake
