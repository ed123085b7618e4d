// Finding and replacing parts of a text, for the rules that clean captions.
//
// A matcher takes a text and a position and returns the position behind what it recognises there, or kNone.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "models/umt5/characters.h"

namespace longtake::caption {

using Text = std::u32string;
using View = std::u32string_view;

inline constexpr size_t kNone = Text::npos;

inline bool is_one_of(char32_t c, View set) { return set.find(c) != set.npos; }

inline size_t match_word(const Text& text, size_t at, View word) {
  return at <= text.size() && View(text).substr(at).starts_with(word) ? at + word.size() : kNone;
}

template <size_t N>
size_t match_any(const Text& text, size_t at, const std::array<View, N>& words) {
  for (const View word : words) {
    if (const size_t end = match_word(text, at, word); end != kNone) return end;
  }
  return kNone;
}

// Behind the run of characters of a class that begins at `at`; `at` itself where there is none.
template <class Class>
size_t skip(const Text& text, size_t at, Class is_in) {
  while (at < text.size() && is_in(text[at])) ++at;
  return at;
}

inline size_t skip_digits(const Text& text, size_t at) { return skip(text, at, is_digit); }
inline size_t skip_spaces(const Text& text, size_t at) { return skip(text, at, is_space); }

// `text` with every match, from left to right, replaced.
template <class Match>
Text replace(const Text& text, View with, Match match) {
  Text out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = match(at);
    if (end == kNone || end <= at) {
      out += text[at++];
    } else {
      out += with;
      at = end;
    }
  }
  return out;
}

// Every run of at least `least` characters of a class replaced by `with`.
template <class Class>
Text replace_runs(const Text& text, View with, size_t least, Class is_in) {
  return replace(text, with, [&](size_t at) {
    const size_t end = skip(text, at, is_in);
    return end - at >= least ? end : kNone;
  });
}

inline Text strip(const Text& text) {
  const size_t begin = skip_spaces(text, 0);
  size_t end = text.size();
  while (end > begin && is_space(text[end - 1])) --end;
  return text.substr(begin, end - begin);
}

}  // namespace longtake::caption
