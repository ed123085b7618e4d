#include "models/magi/text_rows.h"

#include <ATen/ops/cat.h>

#include <algorithm>

#include "base/error.h"

namespace longtake::magi {
namespace {

constexpr int64_t kNullRows = 50;
constexpr int kMostDurations = 8;

}  // namespace

SpecialTokens SpecialTokens::from(const at::Tensor& caption, const at::Tensor& logo, const at::Tensor& others) {
  if (others.dim() != 2 || others.size(0) <= two_d_anime || caption.dim() != 2 || caption.size(0) != 1 ||
      caption.size(1) != others.size(1) || logo.sizes() != caption.sizes())
    fail_file(
        "the special tokens must be caption_token and logo_token of [1, width] and other_tokens of [{} or more, width]",
        two_d_anime + 1);
  const auto rounded = [](const at::Tensor& t) { return t.to(at::kHalf).to(at::kFloat); };
  return {rounded(caption), rounded(logo), rounded(others)};
}

std::vector<at::Tensor> caption_rows(const at::Tensor& caption, const SpecialTokens& tokens,
                                     const TextSettings& settings, int first, int chunks, int64_t length) {
  const auto row = [&](int64_t index) { return tokens.others.narrow(0, index, 1).to(caption.device()); };
  // Each row goes in front of those before it.
  std::vector<at::Tensor> same{caption};
  using Row = SpecialTokens::Row;
  for (const auto& [on, index] : {std::pair{settings.static_first_frames, Row::static_first_frames},
                                  {settings.dynamic_first_frames, Row::dynamic_first_frames},
                                  {settings.borders, Row::borders},
                                  {settings.high_quality, Row::high_quality},
                                  {settings.three_d_model, Row::three_d_model},
                                  {settings.two_d_anime, Row::two_d_anime}})
    if (on) same.insert(same.begin(), row(index));
  std::vector<at::Tensor> out;
  for (int chunk = first; chunk < chunks; ++chunk) {
    std::vector<at::Tensor> parts = same;
    if (settings.duration)
      parts.insert(parts.begin(), row(Row::duration + std::min(chunks - 1 - chunk, kMostDurations - 1)));
    const at::Tensor rows = at::cat(parts);
    out.push_back(rows.narrow(0, 0, std::min(rows.size(0), length)));
  }
  return out;
}

at::Tensor null_rows(const at::Tensor& null_caption, const SpecialTokens& tokens, const TextSettings& settings) {
  const int64_t count = std::min(kNullRows, null_caption.size(0));
  if (!settings.negative) return null_caption.narrow(0, 0, count);
  const auto row = [&](int64_t index) { return tokens.others.narrow(0, index, 1); };
  // In front, one after another; as many rows count as without them.
  const at::Tensor unwanted =
      at::cat({row(SpecialTokens::borders), row(SpecialTokens::transition), tokens.logo, tokens.caption})
          .to(null_caption.device());
  return at::cat({unwanted, null_caption}).narrow(0, 0, count);
}

}  // namespace longtake::magi
