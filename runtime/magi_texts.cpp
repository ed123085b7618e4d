#include "runtime/magi_texts.h"

#include <algorithm>

#include "base/error.h"
#include "runtime/magi_step.h"

namespace longtake::magi {

VideoTexts::VideoTexts(const Transformer& transformer, const std::vector<at::Tensor>& captions,
                       const std::vector<int>& prompt_of, const SpecialTokens& tokens, const TextSettings& settings,
                       const VideoSize& size)
    : distilled_(transformer.distilled()),
      none_(prepare_text(transformer, null_rows(transformer.null_caption(), tokens, settings))) {
  const int generated = size.chunks - size.first;
  LONGTAKE_CHECK(!captions.empty() && (prompt_of.empty() || static_cast<int>(prompt_of.size()) == generated),
                 "expected a caption, and a prompt for each of {} chunks, found {} and {}", generated, captions.size(),
                 prompt_of.size());
  std::vector<std::vector<at::Tensor>> rows;  // by prompt, then chunk
  for (const at::Tensor& caption : captions)
    rows.push_back(
        caption_rows(caption, tokens, settings, size.first, size.chunks, transformer.config().caption_length));
  // Prefix chunks only ever run clean, without a text.
  of_chunk_.assign(size.first, &none_);
  const auto rows_of = [&](int i) -> const at::Tensor& { return rows.at(prompt_of.empty() ? 0 : prompt_of[i]).at(i); };
  for (int i = 0; i < generated; ++i) {
    auto found = std::find_if(texts_.begin(), texts_.end(),
                              [&](const auto& text) { return rows_of(text.first).equal(rows_of(i)); });
    if (found == texts_.end()) found = texts_.emplace(i, prepare_text(transformer, rows_of(i))).first;
    of_chunk_.push_back(&found->second);
  }
}

std::vector<Branch> VideoTexts::branches(bool own_keys) const { return guidance_branches(distilled_, of_chunk_, none_, own_keys); }

}  // namespace longtake::magi
