#include "models/umt5/tokenizer.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <sentencepiece_processor.h>

#include <fstream>
#include <iterator>

#include "base/error.h"
#include "models/umt5/caption_clean.h"
#include "models/umt5/text_clean.h"

namespace longtake {
namespace {

// Of T5 models, where the file does not say.
constexpr int64_t kUsualPad = 0, kUsualEnd = 1;

std::string read_model(const std::filesystem::path& file) {
  // The largest known model has 5 MB; this only keeps a wrong file from filling the memory.
  constexpr uintmax_t kLargest = uintmax_t{1} << 28;
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(file, error);
  if (error)
    fail_file("cannot read the tokenizer {}: {}; give a SentencePiece model (spiece.model)", file.string(),
              error.message());
  if (size > kLargest) {
    fail_file("the tokenizer {} has {} bytes, more than any SentencePiece model; give a spiece.model", file.string(),
              size);
  }
  std::ifstream stream(file, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  if (!stream || bytes.size() != size) {
    fail_file("cannot read the tokenizer {}: found {} of {} bytes; check the disk", file.string(), bytes.size(), size);
  }
  return bytes;
}

}  // namespace

Tokenizer::Tokenizer(const std::filesystem::path& file) : Tokenizer(read_model(file), file.string()) {}

Tokenizer Tokenizer::from_bytes(std::string_view bytes, const std::string& name) { return Tokenizer(bytes, name); }

Tokenizer::Tokenizer(std::string_view bytes, const std::string& name)
    : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
  const auto status = processor_->LoadFromSerializedProto({bytes.data(), bytes.size()});
  if (bytes.empty() || !status.ok()) {
    fail_file("{} is no SentencePiece model ({}); fetch spiece.model again", name,
              bytes.empty() ? "it is empty" : status.ToString());
  }
  const auto id_or = [](int64_t id, int64_t usual) { return id >= 0 ? id : usual; };
  pad_ = id_or(processor_->pad_id(), kUsualPad);
  end_ = id_or(processor_->eos_id(), kUsualEnd);
  unknown_ = processor_->unk_id();
  if (pad_ >= vocabulary() || end_ >= vocabulary()) {
    fail_file(
        "{} has {} pieces, too few for the padding {} and the end mark {}; give the text encoder's own spiece.model",
        name, vocabulary(), pad_, end_);
  }
}

Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

int64_t Tokenizer::vocabulary() const { return processor_->GetPieceSize(); }

PromptTokens Tokenizer::encode(std::string_view prompt, int64_t max_length) const {
  return encode_cleaned(clean_prompt(prompt), max_length);
}

PromptTokens Tokenizer::encode_caption(std::string_view caption, int64_t max_length) const {
  return encode_cleaned(clean_caption(caption), max_length);
}

PromptTokens Tokenizer::encode_cleaned(std::string_view text, int64_t max_length) const {
  LONGTAKE_CHECK(max_length >= 1, "the length {} leaves no room for the end mark", max_length);
  std::vector<int> pieces;
  const auto status = processor_->Encode({text.data(), text.size()}, &pieces);
  if (!status.ok()) fail(ExitCode::internal, "SentencePiece cannot tokenise the prompt: {}", status.ToString());

  PromptTokens tokens;
  tokens.total = static_cast<int64_t>(pieces.size()) + 1;
  const size_t kept = std::min(pieces.size(), static_cast<size_t>(max_length - 1));
  tokens.ids.assign(pieces.begin(), pieces.begin() + static_cast<ptrdiff_t>(kept));
  tokens.ids.push_back(end_);
  return tokens;
}

TokenBatch Tokenizer::pad(std::span<const PromptTokens> prompts, int64_t length) const {
  const auto batch = static_cast<int64_t>(prompts.size());
  TokenBatch out{at::full({batch, length}, pad_, at::kLong), at::zeros({batch, length}, at::kLong)};
  for (int64_t row = 0; row < batch; ++row) {
    const std::vector<int64_t>& ids = prompts[row].ids;
    LONGTAKE_CHECK(static_cast<int64_t>(ids.size()) <= length, "{} tokens do not fit into {}", ids.size(), length);
    std::copy(ids.begin(), ids.end(), out.ids.mutable_data_ptr<int64_t>() + row * length);
    std::fill_n(out.mask.mutable_data_ptr<int64_t>() + row * length, ids.size(), 1);
  }
  return out;
}

}  // namespace longtake
