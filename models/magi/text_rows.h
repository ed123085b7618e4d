// The caption rows that MAGI-1's chunks attend to: special rows in front of the text encoder's, and the null caption.
// Spec: magi1.md 3.7. Only rows that count are kept: the reference pads to 800 and masks the rest.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <vector>

namespace longtake::magi {

// The fixed rows of special_tokens.npz, [n, caption_dim] float32.
struct SpecialTokens {
  at::Tensor caption, logo;  // [1, caption_dim]
  at::Tensor others;         // [17 or more, caption_dim], by Row

  enum Row : int64_t {
    transition = 0,
    high_quality = 1,
    static_first_frames = 2,
    dynamic_first_frames = 3,
    borders = 4,
    duration = 7,  // of 1 ... 8 chunks: eight rows
    three_d_model = 15,
    two_d_anime = 16
  };

  // From the file's values, float64; the model was trained on their float16 roundings. Error (bad_file) for other
  // shapes.
  static SpecialTokens from(const at::Tensor& caption, const at::Tensor& logo, const at::Tensor& others);

  // The reference's file, whose arrays are caption_token, logo_token and other_tokens; `width` is the text encoder's.
  // Error (bad_file) where it is another file, or its rows are of another width or not finite.
  static SpecialTokens read(const std::filesystem::path& file, int64_t width);
};

// Which special rows there are. The released models were trained and are run with `high_quality` and `duration`.
struct TextSettings {
  bool static_first_frames = false, dynamic_first_frames = false, borders = false, high_quality = true;
  bool three_d_model = false, two_d_anime = false, duration = true;
  bool negative = false;  // special rows for unwanted things in front of the null caption
};

// caption [L, caption_dim] float32: the text encoder's rows that count -> the rows of each chunk from `first` to
// `chunks` - 1, cut to `length`. They differ in the row that says how many chunks are left.
std::vector<at::Tensor> caption_rows(const at::Tensor& caption, const SpecialTokens& tokens,
                                     const TextSettings& settings, int first, int chunks, int64_t length);

// null_caption [caption_length, caption_dim] -> the rows that stand for no text.
at::Tensor null_rows(const at::Tensor& null_caption, const SpecialTokens& tokens, const TextSettings& settings);

}  // namespace longtake::magi
