#include "models/magi/text_rows.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>

#include "base/error.h"
#include "models/weights/npz.h"

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

SpecialTokens SpecialTokens::read(const std::filesystem::path& file, int64_t width) {
  const NpzFile arrays(file);
  for (const char* name : {"caption_token", "logo_token", "other_tokens"}) {
    const TensorInfo* info = arrays.find(name);
    if (!info) fail_file("{}: holds no array '{}'; give MAGI-1's special_tokens.npz", file.string(), name);
    if (!c10::isFloatingType(info->dtype) || info->shape.size() != 2 || info->shape[1] != width)
      fail_file("{}: '{}' is {} {}, expected floating-point rows of width {}, which is the text encoder's", file.string(), name,
                c10::toString(info->dtype), shape_text(info->shape), width);
  }
  const SpecialTokens tokens = from(arrays.tensor("caption_token"), arrays.tensor("logo_token"), arrays.tensor("other_tokens"));
  for (const at::Tensor& rows : {tokens.caption, tokens.logo, tokens.others})
    if (!at::isfinite(rows).all().item<bool>()) fail_file("{}: holds values that are not finite in float16; the file is damaged", file.string());
  return tokens;
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
